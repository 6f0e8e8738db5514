"""The experiments of examples/papers: their parts have the values of closed forms, their runs go on where they stopped,
and docs/papers.md has the committed results."""

import importlib
import itertools
import math
import sys

import pytest
import torch
from places import EXAMPLES, ROOT

import vae_kernels as vk

if not EXAMPLES.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no examples/", allow_module_level=True)


@pytest.fixture
def script(monkeypatch):
    """Imports a script of examples/papers."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "papers"))
    yield importlib.import_module
    for name in ("experiments", "one_layer", "sigma", "tcvae"):
        sys.modules.pop(name, None)


def pictures(n=60):
    return torch.rand(n, 784, generator=torch.Generator().manual_seed(1)).square()


@pytest.fixture
def one_layer(script, monkeypatch):
    module = script("one_layer")
    monkeypatch.setattr(module, "HIDDEN", 8)
    monkeypatch.setattr(module, "LATENTS", 4)
    return module


def test_the_schedule_of_the_learning_rate(one_layer):
    """3^i steps at 0.001 * 10^(-i / 7), i = 0 ... 7."""
    stages = [3**i for i in range(8)]
    rates = [one_layer.rate(step, stages) for step in range(sum(stages))]
    assert [len(list(group)) for _, group in itertools.groupby(rates)] == stages
    assert rates[0] == 1e-3 and rates[-1] == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize("prior", ["normal", "vamp"])
def test_a_run_that_stops_goes_on(one_layer, tmp_path, monkeypatch, prior):
    """A run that is stopped after a checkpoint has, in the end, the bits of a run without a stop."""
    monkeypatch.setattr(one_layer, "CHECKED", 3)
    monkeypatch.setattr(one_layer, "EVERY", 0.0)
    words = ["--batch", "20", "--share", "400", "--samples", "2", "--prior", prior, "--out"]
    whole, steps = one_layer.train(one_layer.arguments([*words, str(tmp_path / "whole")]), pictures())
    assert steps > 20
    args, calls = one_layer.arguments([*words, str(tmp_path / "stopped")]), itertools.count()
    bound = one_layer.bound

    def stops(*arguments):
        if next(calls) == 10:
            raise KeyboardInterrupt
        return bound(*arguments)

    monkeypatch.setattr(one_layer, "bound", stops)
    with pytest.raises(KeyboardInterrupt):
        one_layer.train(args, pictures())
    resumed, _ = one_layer.train(args, pictures())
    assert next(calls) == 11 + steps - 9  # ten calls, the stopped call, and the steps after the checkpoint at step 9
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


@pytest.mark.parametrize(("objective", "samples"), [("vae", 1), ("vae", 5), ("iwae", 5)])
def test_the_bounds(one_layer, objective, samples):
    """The mean over many draws is that of the paper's formulas in torch.distributions, within four standard errors."""
    draws, normal = 400, torch.distributions.Normal
    torch.manual_seed(0)
    x = pictures(20).round().double()
    vae = one_layer.model(x.mean(0), "normal", x).double()
    with torch.no_grad():
        vae.encoder[-1].bias[4:] = 1.0  # wide posteriors, so that the two bounds differ
        ours = torch.stack([one_layer.bound(vae, x, objective, samples) for _ in range(draws)])
        mu, logvar = vae.encode(x)
        q = normal(mu, torch.exp(0.5 * logvar))
        z = q.sample((draws * samples,))
        log_x = torch.distributions.Bernoulli(logits=vae.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])).log_prob(x)
        log_w = log_x.sum(-1) + (normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1)
        log_w = log_w.reshape(draws, samples, len(x))
        means = {"vae": log_w.mean(1), "iwae": torch.logsumexp(log_w, 1) - math.log(samples)}
        theirs = {name: -mean.sum(1) for name, mean in means.items()}
    error = lambda values: (values.var() / draws).item()  # noqa: E731
    apart = {
        name: (ours.mean() - t.mean()).abs().item() / math.sqrt(error(ours) + error(t)) for name, t in theirs.items()
    }
    assert apart[objective] < 4
    assert samples == 1 or max(apart.values()) > 10  # this test tells the two bounds apart


def test_the_mean_image_is_the_first_guess(one_layer):
    x = pictures()
    decoder = one_layer.model(x.mean(0), "normal", x).decoder
    torch.testing.assert_close(torch.sigmoid(decoder[-1].bias), x.mean(0).clamp(0.001, 0.999))


def test_a_file_of_results_has_each_run_once(script, tmp_path):
    experiments = script("experiments")
    path = tmp_path / "a" / "runs.csv"
    for seed, value in ((0, 1.5), (1, 2.5), (0, 3.5)):
        experiments.write(path, {"seed": seed, "value": value}, ("seed",))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:2] for line in lines] == [["seed", "value"], ["1", "2.5"], ["0", "3.5"]]


def test_the_frechet_distance(script):
    """0 of a set with itself. Of Gaussians with diagonal covariances a sum over the dimensions: Heusel et al. 2017."""
    frechet = script("sigma").frechet
    g = torch.Generator().manual_seed(0)
    a = torch.randn(200, 3, dtype=torch.float64, generator=g)
    assert abs(frechet(a, a)) < 1e-9
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(a.T)), (a - a.mean(0)).T, upper=False).T
    scale, shift = torch.tensor([2.0, 0.5, 3.0]).double(), torch.tensor([1.0, -2.0, 0.0]).double()
    expected = (shift.square() + (scale - 1).square()).sum().item()
    assert frechet(white, white * scale + shift) == pytest.approx(expected, rel=1e-9)


@pytest.mark.full
def test_sigma_in_closed_form_is_that_of_the_residuals(script):
    module = script("sigma")
    torch.manual_seed(0)
    x = pictures(512)
    vae = module.train(x, "optimal", 1.0, 6)
    found = module.evaluate(vae, x, x[:128], lambda images: images[:, :8])
    assert found["sigma_in_training"] == pytest.approx(math.sqrt(found["test_mse"]), rel=0.1)
    fixed = module.evaluate(module.train(x, "1", 1.0, 1), x, x[:128], lambda images: images[:, :8])
    assert fixed["sigma_in_training"] == 1


def test_sprites_have_their_factors(script):
    """The square has the area of a square, the ellipse that of an ellipse, and a shift moves the picture."""
    module = script("tcvae")
    at = {"scale": 5, "orientation": 0, "x": 8, "y": 8}
    drawn = [module.render(torch.tensor([s]), *(torch.tensor([v]) for v in at.values())) for s in range(3)]
    cell, size = (2 / (module.SIDE - 1)) ** 2, 0.6
    areas = [picture.sum().item() * cell for picture in drawn]
    assert areas[0] == pytest.approx((1.6 * size) ** 2, rel=0.1)
    assert areas[1] == pytest.approx(math.pi * size * size / 2, rel=0.1)
    assert len({tuple(picture.flatten().tolist()) for picture in drawn}) == 3
    pairs = [module.render(torch.tensor([0]), *(torch.tensor([v]) for v in (at | {"x": x}).values())) for x in (0, 15)]
    middles = [(p.reshape(32, 32).sum(0) * torch.arange(32.0)).sum() / p.sum() for p in pairs]
    assert (middles[1] - middles[0]).item() == pytest.approx(31 / 2, abs=1)  # from -1/2 to 1/2 of [-1, 1]


def test_the_mutual_information(script):
    """log n of a code that is the factor, 0 of an independent code."""
    found = script("tcvae").mutual_information
    pairs = torch.tensor(list(itertools.product(range(5), range(4))))
    information = found(pairs.float(), pairs)
    torch.testing.assert_close(information, torch.diag(torch.tensor([math.log(5), math.log(4)])), rtol=1e-5, atol=1e-5)


@pytest.mark.full
def test_the_terms_of_a_tcvae(script, monkeypatch):
    """The three parts are the KL, and beta weighs the total correlation alone."""
    module = script("tcvae")
    torch.manual_seed(0)
    z, mu, logvar = torch.randn(3, 64, 10)
    parts = vk.kl_decomposition(z, mu, logvar, dataset_size=500)
    one, six = (module.kl_of("tcvae", z, mu, logvar, beta, 500) for beta in (1, 6))
    torch.testing.assert_close(one, parts.kl)
    torch.testing.assert_close(six - one, 5 * parts.total_correlation)
    monkeypatch.setattr(module, "FACTORS", {"shape": 3, "scale": 3, "orientation": 2, "x": 4, "y": 4})
    monkeypatch.setattr(module, "BATCH", 32)
    x, factors = module.sprites()
    found = module.evaluate(module.train(x, "tcvae", 2.0, 10), x, factors)
    assert found["kl_nats"] > 1
    names = "mutual_information", "total_correlation", "dimension_wise_kl"
    assert sum(found[f"{name}_nats"] for name in names) == pytest.approx(found["kl_nats"], rel=0.2)


def test_the_pages_have_the_committed_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name)
    pages = importlib.import_module("bench.pages")
    for name in pages.PAGES:
        assert pages.rendered(name) == (pages.DOCS / name).read_text(encoding="utf-8"), name
    assert {row["samples"] for row in pages.read("papers/one_layer")} >= {"1", "5"}
