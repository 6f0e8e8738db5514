"""The arguments of a table: what likelihoods.Mixed and the functions accept, and what they refuse, by name."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
import torch

import vae_kernels as vk
from vae_kernels.likelihoods import Likelihood, Mixed

COLUMNS = ("gaussian", ("categorical", 3), ("laplace", "tanh"), "poisson")
B, W, C = 5, 6, 4


def parts(codes=False):
    likelihood = Mixed(COLUMNS, codes=codes)
    packed, logscale = torch.randn(B, W), torch.zeros(C)
    return likelihood, packed, logscale, likelihood.sample((packed, logscale))


def test_an_object_is_a_constant():
    table = Mixed(COLUMNS)
    assert table == Mixed(list(map(list_of, COLUMNS))) and hash(table) == hash(Mixed(COLUMNS))
    assert table != Mixed(COLUMNS, codes=True) and table != Mixed(COLUMNS[1:])
    assert eval(repr(table), {"vk": vk}) == table
    for made in (pickle.loads(pickle.dumps(table)), copy.deepcopy(table)):
        assert made == table and made.width == W
    state = json.loads(json.dumps(table.to_dict()))
    assert Likelihood.from_dict(state) == table == Mixed.from_dict(state)
    with pytest.raises(AttributeError):
        table.codes = True


def list_of(column):
    return list(column) if isinstance(column, tuple) else column


EXPECTED = 'expected one of "gaussian", "laplace"'


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        ([], ValueError, "columns: got no column, expected at least one"),
        ("gaussian", TypeError, "columns: got str, expected a sequence of columns"),
        (3, TypeError, "columns: got int, expected a sequence of columns"),
        (["gaussian", "normal"], ValueError, "columns[1]: got 'normal', " + EXPECTED),
        (["categorical"], ValueError, "columns[0]: got 'categorical', " + EXPECTED),
        ([("categorical", 1)], ValueError, "columns[0]: got ('categorical', 1), expected 2 to 16777216 categories"),
        ([("categorical", 2.0)], TypeError, "columns[0]: got ('categorical', 2.0), expected an integer"),
        ([("categorical", True)], TypeError, "columns[0]: got ('categorical', True), expected an integer"),
        ([("poisson", "tanh")], ValueError, "columns[0]: got ('poisson', 'tanh'), " + EXPECTED),
        ([("gaussian", 3)], ValueError, "columns[0]: got ('gaussian', 3), " + EXPECTED),
        ([("gaussian", ["tanh"])], ValueError, "columns[0]: got ('gaussian', ['tanh']), " + EXPECTED),
        ([None], ValueError, "columns[0]: got None, " + EXPECTED),
    ],
)
def test_what_is_no_column(columns, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Mixed(columns)


def test_an_integer_of_numpy_counts_categories():
    """len(unique(codes)) of NumPy is one. Afterwards the column is as any other: equal, and json writes it."""
    table = Mixed(["gaussian", ("categorical", np.int64(3))])
    assert table == Mixed(["gaussian", ("categorical", 3)]) and type(table.columns[1][1]) is int


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_numbers_and_codes_are_joined(dtype):
    """x has each number and each code in its own column, and the same nll as the one-hot form."""
    columns = [("categorical", 300), "gaussian", "poisson", ("categorical", 2), ("laplace", "tanh")]
    numbers = torch.tensor([[0.5, 3, -1], [2, 0, 7]]).to(dtype)
    codes = torch.tensor([[299, 1], [257, 0]])
    table = Mixed(columns, codes=True)
    x = table.join(numbers, codes)
    assert x.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(x[:, [0, 3]].long(), codes) and torch.equal(x[:, [1, 2, 4]].to(dtype), numbers)
    packed = torch.randn(2, table.width, dtype=torch.float64)
    hot = [torch.nn.functional.one_hot(codes[:, i], k) for i, k in enumerate((300, 2))]
    one_hot = torch.cat([hot[0], x[:, 1:3], hot[1], x[:, 4:]], 1).double()
    expected = vk.nll((packed,), one_hot, likelihood=Mixed(columns))
    torch.testing.assert_close(vk.nll((packed,), x.double(), likelihood=table), expected)


def test_what_does_not_join():
    numbers, codes = torch.zeros(B, 3), torch.zeros(B, 1, dtype=torch.int32)
    table = Mixed(COLUMNS, codes=True)
    for wrong, words in (
        ((numbers[:, :2], codes), "numbers: got shape (5, 2), expected (5, 3), one for each column without categories"),
        ((numbers, codes[:4]), "codes: got shape (4, 1), expected (5, 1), one for each column with categories"),
        ((numbers, codes[:, 0]), "codes: got shape (5,), expected (5, 1)"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            table.join(*wrong)
    with pytest.raises(TypeError, match=r"codes: got dtype torch\.float32"):
        table.join(numbers, codes.float())
    with pytest.raises(ValueError, match=re.escape("expected Mixed(..., codes=True)")):
        Mixed(COLUMNS).join(numbers, codes)


def test_what_is_no_flag():
    with pytest.raises(TypeError, match="codes: got 1, expected True or False"):
        Mixed(COLUMNS, codes=1)


def test_the_name_alone_has_no_columns():
    _, packed, logscale, x = parts()
    words = r"likelihood: got 'mixed', expected an object with columns, vk.likelihoods.Mixed\(\[...\]\)"
    with pytest.raises(ValueError, match=words):
        vk.nll((packed, logscale), x, likelihood="mixed")
    with pytest.raises(TypeError, match=r"likelihood: got the class Mixed, expected an object, Mixed\(\)"):
        vk.nll((packed, logscale), x, likelihood=Mixed)


FUNCTIONS = {
    "nll": lambda recon, x, **given: vk.nll(recon, x, **given),
    "fused_elbo": lambda recon, x, **given: vk.fused_elbo(recon, x, kl=torch.zeros(len(x)), **given),
    "log_prob": lambda recon, x, **given: vk.log_prob(recon, x, **given),
}
BAD = {
    "x is codes": (lambda p, s, x: ((p, s), x[:, :C], {}), "x: got shape (5, 4), expected (B, 6): K numbers for a "
                   "categorical column, which is one-hot; Mixed(..., codes=True) takes this x"),
    "x is narrow": (lambda p, s, x: ((p, s), x[:, 1:], {}), "x: got shape (5, 5), expected (B, 6): K numbers"),
    "x is an image": (lambda p, s, x: ((p, s), x[None], {}), "x: got shape (1, 5, 6), expected (B, 6)"),
    "packed is narrow": (lambda p, s, x: ((p[:, 1:], s), x, {}), "(packed): got shape (5, 5), expected (5, 6): K"),
    "packed has other rows": (lambda p, s, x: ((p[1:], s), x, {}), "recon[0] (packed): got shape (4, 6)"),
    "logscale is long": (lambda p, s, x: ((p, torch.zeros(W)), x, {}), "(logscale): got shape (6,), expected (4,)"),
    "logscale has other rows": (lambda p, s, x: ((p, torch.zeros(2, C)), x, {}), "(logscale): got shape (2, 4)"),
    "logscale by name": (lambda p, s, x: ({"packed": p, "logscale": torch.zeros(1, 1, C)}, x, {}),
                         "recon['logscale']: got shape (1, 1, 4), expected (4,), one number for each column"),
    "an unknown name": (lambda p, s, x: ({"logits": p}, x, {}), "recon: got the keys 'logits', expected the mixed "
                        "parameters packed, logscale"),
    "three parts": (lambda p, s, x: ((p, s, s), x, {}), "recon: got 3 tensors, expected the mixed parameters"),
    "obs_logvar": (lambda p, s, x: ((p, s), x, {"obs_logvar": 0.0}),
                   "obs_logvar: has no effect with likelihood='mixed'"),
    "log_total": (lambda p, s, x: ((p, s), x, {"log_total": torch.zeros(B)}),
                  "log_total: has no effect with likelihood='mixed'"),
}  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit(function, name):
    likelihood, packed, logscale, x = parts()
    make, words = BAD[name]
    recon, x, given = make(packed, logscale, x)
    with pytest.raises(ValueError, match=re.escape(words)):
        FUNCTIONS[function](recon, x, likelihood=likelihood, **given)


def test_codes_of_the_wrong_width():
    likelihood, packed, logscale, _ = parts(codes=True)
    words = "x: got shape (5, 6), expected (B, 4): one number for each column; Mixed(..., codes=False) takes this x"
    with pytest.raises(ValueError, match=re.escape(words)):
        vk.nll((packed, logscale), torch.zeros(B, W), likelihood=likelihood)


@pytest.mark.parametrize(
    ("dtype", "most"),
    [(torch.bfloat16, 257), (torch.float16, 2049), (torch.uint8, 256), (torch.int8, 128), (torch.bool, 2)],
)
def test_a_type_that_does_not_hold_the_codes(dtype, most):
    """The largest code that this type holds is read, and one category more is an error."""
    x = torch.tensor([[most - 1]]).to(dtype)
    packed = torch.zeros(1, most + 1)
    nll = vk.nll(packed[:, 1:], x, likelihood=Mixed([("categorical", most)], codes=True))
    torch.testing.assert_close(nll, torch.tensor([float(most)]).log())
    words = f"x: got dtype {dtype}, which does not hold all codes of {most + 1} categories"
    with pytest.raises(TypeError, match=re.escape(words)):
        vk.nll(packed, x, likelihood=Mixed([("categorical", most + 1)], codes=True))


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (torch.ones(B, W), ValueError, "weight: got shape (5, 6), expected one that broadcasts to the terms, (5, 4)"),
        (torch.ones(W), ValueError, "weight: got shape (6,), expected one that broadcasts to the terms, (5, 4)"),
        (torch.ones(B), ValueError, "broadcasts to the terms, (5, 4); a weight for each sample has the shape (5, 1)"),
        (torch.ones(B, C).long(), TypeError, "weight: got dtype torch.int64, expected a mask, weight.bool()"),
        (0.5, TypeError, "weight: got float, expected a tensor, bool or floating, that broadcasts to the terms"),
    ],
)  # fmt: skip
def test_a_weight_is_one_of_the_columns(weight, error, words):
    likelihood, packed, logscale, x = parts()
    with pytest.raises(error, match=re.escape(words)):
        vk.nll((packed, logscale), x, likelihood=likelihood, weight=weight)
    model = vk.VAE(torch.nn.Linear(W, 4), torch.nn.Linear(2, W), likelihood=likelihood)
    with pytest.raises(error, match=re.escape(words)):
        model.loss(x, weight=weight)


def test_what_needs_another_decoder():
    with pytest.raises(ValueError, match=r"likelihood: 'mixed' needs a decoder of packed \[B, width\]; expected VAE"):
        vk.mlp_vae((W,), likelihood=Mixed(COLUMNS))
    with pytest.raises(ValueError, match="likelihood: 'mixed' has no distribution; its mean"):
        Mixed(COLUMNS).distribution(torch.zeros(B, W))


def test_a_mean_checks_its_recon():
    with pytest.raises(ValueError, match=re.escape("recon: got shape (5, 5), expected (B, 6): K logits")):
        Mixed(COLUMNS).mean(torch.zeros(B, W - 1))
    with pytest.raises(TypeError, match=re.escape("recon[1] (logscale): got float, expected a tensor")):
        Mixed(COLUMNS).sample((torch.zeros(B, W), 0.0))
