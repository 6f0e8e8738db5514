"""The doctor of a table: the trivial model of each column, and what the latents tell of it."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import vae_kernels as vk
from vae_kernels.doctor import columns, first
from vae_kernels.doctor.facts import Facts
from vae_kernels.doctor.look import Outputs, values_of

Mixed = vk.likelihoods.Mixed
N = 4000
KINDS = (
    *("gaussian", "laplace", "poisson", "negative_binomial", "bernoulli"),
    *(("categorical", 3), ("gaussian", "tanh"), ("categorical", 2)),
)


def table(codes, n=N):
    """Rows of KINDS, whose parameters are the same for all rows, in float64."""
    rng = np.random.default_rng(0)
    numbers = [
        rng.normal(3, 2, n),
        rng.laplace(-1, 0.5, n),
        rng.poisson(4, n),
        rng.negative_binomial(3, 0.4, n),
        rng.binomial(1, 0.2, n),
        rng.choice(3, n, p=[0.7, 0.2, 0.1]),
        np.clip(rng.normal(0.3, 0.2, n), -1, 1),
        rng.choice(2, n, p=[0.4, 0.6]),
    ]
    parts = [torch.tensor(values).double()[:, None] for values in numbers]
    if not codes:
        parts[5], parts[7] = (
            nn.functional.one_hot(parts[i].long().squeeze(1), k).double() for i, k in ((5, 3), (7, 2))
        )
    return torch.cat(parts, 1)


def entropies():
    """-log p of each column under its own distribution, in nats: the least that a trivial model can have."""
    return [
        stats.norm(3, 2).entropy(),
        stats.laplace(-1, 0.5).entropy(),
        stats.poisson(4).entropy(),
        -stats.nbinom(3, 0.4).expect(lambda k: stats.nbinom.logpmf(k, 3, 0.4)),
        stats.bernoulli(0.2).entropy(),
        stats.entropy([0.7, 0.2, 0.1]),
        stats.norm(0.3, 0.2).entropy(),
        stats.entropy([0.4, 0.6]),
    ]


def trivial(codes, x, weight=None):
    return columns.constants(Mixed(KINDS, codes=codes), x, weight, ("packed", "logscale"))


@pytest.mark.parametrize("codes", [False, True])
def test_the_trivial_model_has_the_entropy_of_each_column(codes):
    x, likelihood = table(codes), Mixed(KINDS, codes=codes)
    recon = {name: t.expand(N, -1) for name, t in trivial(codes, x).items()}
    terms = -vk.log_prob(recon, x, likelihood=likelihood, backend="torch")
    errors = terms.std(0) / math.sqrt(N)
    away = (terms.mean(0) - torch.tensor(entropies(), dtype=torch.float64)).abs()
    assert (away < 4 * errors + 2e-3).all(), (away, errors)


def test_both_forms_of_x_have_the_same_trivial_model():
    for name, t in trivial(False, table(False)).items():
        torch.testing.assert_close(t, trivial(True, table(True))[name])


def test_the_location_of_a_laplace_column_is_its_median():
    x = torch.tensor([[0.0], [1.0], [50.0]], dtype=torch.float64)
    found = columns.constants(Mixed(("laplace",)), x, None, ("packed", "logscale"))
    assert found["packed"].item() == 1 and found["logscale"].exp().item() == pytest.approx(50 / 3)


def test_a_missing_cell_is_not_counted():
    x = table(True, 60)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[40:] = False
    spoilt = torch.where(mask, x, 77.0)
    for name, t in trivial(True, spoilt, mask).items():
        torch.testing.assert_close(t, trivial(True, x[:40])[name])


def test_a_value_that_was_not_seen_is_possible():
    x = torch.zeros(10, 8, dtype=torch.float64)
    found = trivial(True, x)
    assert all(t.isfinite().all() for t in found.values())
    assert columns.constants(Mixed(("poisson",)), x[:, :1], None, ("packed",)).keys() == {"packed"}


# ---------------------------------------------------------------- what the latents tell


class Knows(nn.Module):
    """An encoder whose posterior is the first column, nearly exact; a decoder that gives z as the first column, and
    for the other columns the trivial model of x."""

    def __init__(self, likelihood, x):
        super().__init__()
        constants = columns.constants(likelihood, x, None, ("packed", "logscale"))
        self.logscale = nn.Parameter(constants["logscale"][0].to(x.dtype))
        self.packed = constants["packed"].to(x.dtype)
        with torch.no_grad():
            self.logscale[0] = math.log(0.05)

    def forward(self, z):
        return torch.cat([z, self.packed[:, 1:].expand(len(z), -1)], 1), self.logscale


class First(nn.Module):
    def forward(self, x):
        return torch.cat([x[:, :1], torch.full_like(x[:, :1], -8.0)], 1)


def made(codes=False, n=400):
    likelihood, x = Mixed(KINDS, codes=codes), table(codes, n).float()
    return vk.VAE(First(), Knows(likelihood, x), likelihood=likelihood, latent_shape=1, backend="torch"), x


@pytest.mark.parametrize("codes", [False, True])
def test_the_column_that_the_latents_know_is_explained(codes):
    vae, x = made(codes)
    diagnosis = vk.diagnose(vae, x, log_p=None)
    found = diagnosis.measures.columns
    assert [c.number for c in found] == list(range(8)) and [c.kind for c in found] == columns.kinds_of(vae.likelihood)
    assert [c.explained for c in found] == [True] + 7 * [False]
    alone = 0.5 * math.log(2 * math.pi * math.e) + x[:, 0].std(correction=0).log().item()
    assert found[0].alone == pytest.approx(alone, abs=1e-3) and found[0].gain > 2
    assert all(c.gain == pytest.approx(0, abs=1e-5) for c in found[1:])
    assert sum(c.nll for c in found) == pytest.approx(diagnosis.measures.nll, abs=0.05)
    assert f"has {sum(c.alone for c in found):.2f}" in diagnosis["no better than the mean"].evidence


def test_a_mask_beside_a_one_hot_table_is_refused():
    """The message says which form takes a mask of cells."""
    vae, x = made()
    for shape in ((len(x), 8), x.shape):
        with pytest.raises(ValueError, match=r"weight: .*one-hot table.*codes=True"):
            vk.diagnose(vae, x, weight=torch.ones(shape, dtype=torch.bool), log_p=None)
    vae, x = made(codes=True)
    assert vk.diagnose(vae, x, weight=torch.ones(x.shape, dtype=torch.bool), log_p=None).measures.observed == 1


def test_another_likelihood_has_no_columns():
    assert vk.diagnose(vk.mlp_vae((6,), 2, (8,)), torch.rand(20, 6), log_p=None).measures.columns == ()


def test_the_sentence_and_the_tables_have_the_names():
    fits = [
        columns.ColumnFit(i, kind, 1.0, alone, 0.01)
        for i, (kind, alone) in enumerate([("gaussian", 1.01), ("categorical", 1.5), ("gaussian", 0.9)])
    ]
    names = ("age", "colour", "size")
    assert columns.least(fits, names).endswith(
        "2 of 3 columns are explained no better than by their own distribution: size, age"
    )
    assert columns.least(fits[1:2], names) == ""
    categories, numbers = columns.by_kind(fits, names)
    assert categories == ("categorical", [("colour", "1.000", "1.500", "+0.500 ± 0.010", "")])
    assert [line[0] for line in numbers[1]] == ["size", "age"] and numbers[1][0][-1] == "not explained"
    assert columns.by_kind(fits)[0][1][0][0] == "column 1"


def test_the_report_has_a_section_for_the_columns():
    pytest.importorskip("matplotlib")
    from vae_kernels.doctor.report import page

    vae, x = made()
    diagnosis = vk.diagnose(vae, x, log_p=None)
    text = page(diagnosis, "a table", Facts(columns=tuple(f"<name {i}>" for i in range(8))))
    assert 'id="columns"' in text and text.count("not explained") == 7
    for kind in ("gaussian", "categorical", "negative_binomial"):
        assert f"<h3>{kind}</h3>" in text
    assert "&lt;name 3&gt;" in text and "<name 3>" not in text
    of_images = vk.diagnose(vk.mlp_vae((6,), 2, (8,)), torch.rand(20, 6), log_p=None)
    assert 'id="columns"' not in of_images.html()


# ---------------------------------------------------------------- the first look


def test_only_numbers_on_the_whole_line_have_a_scale():
    x = table(True).float()
    x[:, 2] *= 1e6  # counts
    found = values_of(x, Mixed(KINDS, codes=True))
    assert first.data(found, True).level == "healthy" and found.spread < 4
    x[:, 1] *= 1e5
    found = values_of(x, Mixed(KINDS, codes=True))
    assert found.wide.number == 1 and found.narrow.number == 6
    assert first.data(found, True).level == "ill"
    one_hot = table(False).float()
    one_hot[:, 8] *= 1e5  # the column 6, behind the three numbers of a category
    assert values_of(one_hot, Mixed(KINDS)).wide.number == 6
    assert values_of(x[:, 4:5], Mixed(("bernoulli",))).spread == 1.0


def test_a_bounded_decoder_of_a_table():
    x = values_of(table(True).float(), Mixed(KINDS, codes=True))
    bounded = Outputs("packed", 0.0, 1.0, 0.0, 1.0, True, None, ("packed",))
    verdict = first.decoder(bounded, x, Mixed(KINDS, codes=True))
    assert verdict.level == "ill" and "takes numbers from -inf to inf for each pixel or column" in verdict.cause
