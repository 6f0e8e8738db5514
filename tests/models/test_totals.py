"""VAE(total="observed"): counts with the total of each sample, which the model takes from x."""

import pytest
import torch

import vae_kernels as vk
from vae_kernels.formulas import LOG_TOTAL

OUTPUTS = {"poisson": 1, "negative_binomial": 2, "zinb": 3}


def cells(n=64, genes=12):
    """Counts of samples whose totals differ a hundredfold; the first sample has none."""
    g = torch.Generator().manual_seed(0)
    depth = 10 ** torch.linspace(0, 2, n).unsqueeze(1)
    x = torch.poisson(depth * torch.rand(n, genes, generator=g), generator=g)
    x[0] = 0
    return x


def model(likelihood, total="observed"):
    torch.manual_seed(0)
    return vk.mlp_vae((12,), 3, (16,), likelihood=likelihood, outputs=OUTPUTS[likelihood], total=total)


def test_these_are_all_likelihoods_with_a_total():
    assert set(OUTPUTS) == set(LOG_TOTAL)


@pytest.mark.parametrize("likelihood", OUTPUTS)
@pytest.mark.parametrize("terms", [False, True])
def test_the_loss_is_that_of_the_total(likelihood, terms):
    x, vae, plain = cells(), model(likelihood), model(likelihood, total=None)
    given = {"reduction": "none", "return_terms": terms}
    torch.manual_seed(1)
    ours = vae.loss(x, **given)
    torch.manual_seed(1)
    expected = plain.loss(x, log_total=x.sum(1).log(), **given)
    if terms:
        ours, expected = ours.nll, expected.nll
    torch.testing.assert_close(ours, expected)
    assert ours.isfinite().all()
    torch.manual_seed(1)
    other = vae.loss(x, log_total=x.sum(1).log() + 1, **given)
    assert not torch.equal(other.nll if terms else other, ours)  # a call may give another total


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.uint8])
def test_totals_of_other_types(dtype):
    x, vae = cells().clamp(max=255), model("poisson")
    torch.manual_seed(1)
    expected = vae.loss(x)
    torch.manual_seed(1)
    torch.testing.assert_close(vae.loss(x.to(dtype)).to(expected.dtype), expected, rtol=1e-5, atol=0)


def test_reconstructions_have_the_total_of_x():
    x, vae = cells(), model("negative_binomial")
    torch.testing.assert_close(vae.reconstruct(x).sum(1), x.sum(1), rtol=1e-5, atol=0)


def test_missing_counts_are_in_no_total():
    x, vae, plain = cells(), model("poisson"), model("poisson", total=None)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    torch.manual_seed(1)
    ours = vae.loss(torch.where(mask, x, torch.nan), weight=mask, reduction="none")
    torch.manual_seed(1)
    expected = plain.loss(x, weight=mask, log_total=(x * mask).sum(1).log(), reduction="none")
    torch.testing.assert_close(ours, expected)


def test_log_p_and_the_doctor_take_the_total():
    x, vae, plain = cells(), model("zinb"), model("zinb", total=None)
    totals = x.sum(1).log()
    ours, expected = (
        vk.log_marginal_likelihood(m, x, 8, generator=torch.Generator().manual_seed(2), **given).value
        for m, given in ((vae, {}), (plain, {"log_total": totals}))
    )
    torch.testing.assert_close(ours, expected)
    ours, expected = (vk.diagnose(m, x[1:], log_p=None, **given) for m, given in (
        (vae, {}), (plain, {"log_total": totals[1:]})
    ))  # fmt: skip
    assert [v.evidence for v in ours.verdicts] == [v.evidence for v in expected.verdicts]


def test_a_sample_needs_a_total():
    vae = model("poisson")
    with pytest.raises(ValueError, match=r"log_total: got None, expected \[n\]"):
        vae.sample(4)
    drawn = vae.sample(4, log_total=torch.full((4,), 100.0).log())
    torch.testing.assert_close(drawn.sum(1), torch.full((4,), 100.0))


def test_a_sample_without_counts_costs_nothing():
    x, vae = cells(), model("poisson")
    terms = vae.loss(x, reduction="none", return_terms=True)
    assert terms.nll[0] == 0 and (terms.nll[10:] > 0).all()
    terms.loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in vae.parameters())


def test_refusals():
    with pytest.raises(ValueError, match=r"total: has no effect with likelihood='gaussian'; expected one of 'poisson'"):
        vk.mlp_vae((4,), 2, likelihood="gaussian", total="observed")
    with pytest.raises(ValueError, match=r"total: got 3, expected None or 'observed'"):
        vk.mlp_vae((4,), 2, likelihood="poisson", total=3)


def test_repr_and_old_models():
    vae = model("poisson")
    assert "total='observed'" in repr(vae)
    del vae.__dict__["total"]  # a VAE that version 0.1 pickled
    assert vae.total is None and vae.loss(cells()).isfinite()
