"""What "auto" asks of the kernels of a GPU before it takes them; tried here on the CPU, with kernels that are wrong."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from known import BACKENDS

from vae_kernels import backends
from vae_kernels.backends import lean, reference
from vae_kernels.backends.self_test import disagreement
from vae_kernels.core.terms import ElboTerms
from vae_kernels.formulas import PIXEL, SEGMENTS


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_agrees(backend):
    assert disagreement(backends.choose(backend, ()), "cpu") is None


def times(factor, at, results):
    """The results with one of them wrong. A loss without terms stays right."""
    if isinstance(results, torch.Tensor):
        return results
    if isinstance(results, ElboTerms):
        return ElboTerms(*times(factor, at, (results.loss, *results.parts())))
    return tuple(r * factor if i == at and r is not None else r for i, r in enumerate(results))


def without_gradient(t):
    """The same values, whose gradient is 0."""
    return t.detach() + 0 * t


def wrong_for(kind, wrong):
    """An elbo that is wrong for the likelihoods of this kind."""
    return lambda r: wrong(r) if r.settings.likelihood in kind else reference.elbo(r)


def last_row_is_lost(terms):
    columns = len(terms.nll_per_column)
    return ElboTerms(terms.loss, terms.nll, None, None, terms.nll_per_column - terms.nll[-1] / columns / len(terms.nll))


def without_gradient_of(i, request):
    params = [without_gradient(p) if k == i else p for k, p in enumerate(request.params)]
    return reference.elbo(request._replace(params=tuple(params)))


WRONG = {
    "loss": {"elbo": lambda *a: times(1.001, 0, reference.elbo(*a))},
    "nll": {"elbo": lambda *a: times(float("nan"), 1, reference.elbo(*a))},
    "masked loss": {"elbo": lambda r: reference.elbo(r._replace(weight=None))},
    "losses": {"elbo": lambda r: reference.elbo(r) if r.settings.terms or r.settings.floor else 2 * reference.elbo(r)},
    "floored losses": {"elbo": lambda r: reference.elbo(r._replace(settings=r.settings._replace(floor=0)))},
    "KL of each dim": {"elbo": lambda *a: times(-1, 3, reference.elbo(*a))},
    "log p": {"log_prob": lambda *a: 1.001 * reference.log_prob(*a)},
    "KL of z": {"sample_kl": lambda *a: times(0.99, 1, reference.sample_kl(*a))},
    "gradient of recon": {"elbo": lambda r: reference.elbo(r._replace(params=tuple(map(without_gradient, r.params))))},
    "gradient of mu": {"sample_kl": lambda d: reference.sample_kl(d._replace(mu=without_gradient(d.mu)))},
    "log p of a mixture": {"mixture": lambda *a, ahead: reference.mixture(*a) * 1.001},
    "mixture's gradient of logvar": {
        "mixture": lambda z, m, v, w, ahead: reference.mixture(z, m, without_gradient(v), w)
    },
    "table's nll is": {"elbo": wrong_for(SEGMENTS, lambda r: reference.elbo(r._replace(weight=None)))},
    "table's nll of a column": {"elbo": wrong_for(SEGMENTS, lambda r: last_row_is_lost(reference.elbo(r)))},
    "table's gradient of packed": {"elbo": wrong_for(SEGMENTS, lambda r: without_gradient_of(0, r))},
    "table's gradient of logscale": {"elbo": wrong_for(SEGMENTS, lambda r: without_gradient_of(1, r))},
    "losses of pixels": {"elbo": wrong_for(PIXEL, lambda r: 1.001 * reference.elbo(r))},
    "pixels' gradient": {
        "elbo": wrong_for(PIXEL, lambda r: reference.elbo(r._replace(params=(without_gradient(*r.params),))))
    },
    "its noise is not that of the other backends": {
        "sample_kl": lambda draw: reference.sample_kl(draw._replace(rng=draw.rng + 1))
    },
    "RuntimeError: no kernel image": {"elbo": lambda *a: (_ for _ in ()).throw(RuntimeError("no kernel image"))},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_kernel_is_found(what):
    module = SimpleNamespace(
        **{name: getattr(reference, name) for name in ("elbo", "log_prob", "sample_kl", "mixture")}
    )
    vars(module).update(WRONG[what])
    assert what in disagreement(module, "cpu")


class Cuda(SimpleNamespace):
    """As much of a CUDA tensor as the choice looks at."""

    is_cpu, is_cuda, is_meta = False, True, False

    def get_device(self):
        return 3


@pytest.fixture
def verdicts(monkeypatch):
    """What "auto" is told of each backend on device 3, in the order in which it asks."""
    verdicts, asked = {}, []
    monkeypatch.setattr(backends.choice, "_proofs", {})
    monkeypatch.setattr(backends.choice, "_MISSING", dict.fromkeys(backends.choice._MISSING))
    monkeypatch.setattr(backends.choice, "_triton", lambda: "triton")
    monkeypatch.setattr(
        backends.choice, "_disagreement", lambda name, device: (asked.append((name, device)), verdicts[name])[1]
    )
    return verdicts, asked


def test_the_rule_on_a_gpu(verdicts):
    verdicts, asked = verdicts
    verdicts |= {"cuda": None}
    assert backends.choose("auto", (Cuda(), Cuda())) is backends.compiled and asked == [("cuda", 3)]
    backends.choose("auto", (Cuda(),))
    assert asked == [("cuda", 3)]  # once
    assert backends.choose("auto", (Cuda(), torch.zeros(1))) is lean  # devices that differ: an error of the checks


@pytest.mark.parametrize("triton, expected", [(None, "triton"), ("its loss is wrong", lean)])
def test_a_backend_that_is_wrong_is_not_taken_and_named(verdicts, triton, expected):
    verdicts, asked = verdicts
    verdicts |= {"cuda": "its nll is wrong by 3", "triton": triton}
    with pytest.warns(UserWarning) as said:
        assert backends.choose("auto", (Cuda(),)) == expected
    assert "does not take 'cuda' on CUDA device 3: its nll is wrong by 3" in str(said[0].message)
    assert len(said) == len([v for v in verdicts.values() if v])
    assert asked == [("cuda", 3), ("triton", 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.choose("auto", (Cuda(),)) == expected


def test_on_rocm_auto_takes_triton_and_says_nothing(verdicts, monkeypatch):
    verdicts, asked = verdicts
    monkeypatch.setattr(torch.version, "hip", "6.4")
    backends.choice._MISSING["cuda"] = reason = backends.choice._cuda(None)
    assert "ROCm 6.4" in reason and "'triton'" in reason
    verdicts |= {"cuda": reason, "triton": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.choose("auto", (Cuda(),)) == "triton"
    with pytest.raises(ValueError, match="backend='cuda' cannot be used: the CUDA C"):
        backends.choose("cuda", (Cuda(),))
    assert asked == [("cuda", 3), ("triton", 3)]


def test_inside_a_transform_plain_torch_is_taken(verdicts):
    chosen = []
    torch.func.grad(lambda t: (chosen.append(backends.choose("auto", (Cuda(),))), t)[1])(torch.ones(()))
    assert chosen == [reference] and verdicts[1] == []


def test_a_compiler_asks_with_real_tensors(verdicts, monkeypatch):
    """The kernels run while a graph is traced, in a thread that has none of the compiler's modes; the answer is a
    constant of the graph."""
    seen = []

    def disagreement(name, device):
        leaf = torch.ones(2, requires_grad=True)
        seen.append((name, device, torch.autograd.grad((leaf * leaf).sum(), leaf)[0].tolist()))
        return "no" if name == "cuda" else None

    monkeypatch.setattr(backends.choice, "_disagreement", disagreement)
    f = torch.compile(
        lambda t: t * (2 if backends.choice._proved("cuda", 3) else 3), fullgraph=True, backend="aot_eager"
    )
    with torch.no_grad(), pytest.warns(UserWarning, match="does not take 'cuda'"):
        assert f(torch.ones(2)).tolist() == [3, 3]
    assert f(torch.ones(3)).tolist() == [3, 3, 3] and seen == [("cuda", 3, [2.0, 2.0])]


def test_nothing_is_tried_while_a_graph_is_captured(verdicts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert backends.choose("auto", (Cuda(),)) is lean
    verdicts, asked = verdicts
    assert asked == [] == [*backends.choice._proofs]  # and it is asked again afterwards
