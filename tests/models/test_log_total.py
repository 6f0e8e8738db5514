"""log_total= and "multinomial" in the public functions and models: each equals the same thing written by hand."""

import pytest
import torch

import vae_kernels as vk
from vae_kernels.formulas import LOG_TOTAL

close = torch.testing.assert_close
B, G, L = 5, 12, 3
X = torch.poisson(torch.rand(B, G, generator=torch.Generator().manual_seed(0)) * 4)
LOG_TOTAL_OF_X = X.sum(1).log()
OUTPUTS = {"poisson": 1, "negative_binomial": 2, "zinb": 3}


def parts(likelihood, seed=1):
    g = torch.Generator().manual_seed(seed)
    recon = tuple(torch.randn(B, G, generator=g) for _ in range(OUTPUTS.get(likelihood, 1)))
    return recon, torch.randn(B, L, generator=g), 0.3 * torch.randn(B, L, generator=g)


def with_log_mean(recon, log_total=LOG_TOTAL_OF_X):
    """recon with the log-mean in place of the logits."""
    return (log_total.view(-1, 1) + recon[0].log_softmax(1), *recon[1:])


def model(likelihood, **settings):
    torch.manual_seed(0)
    return vk.mlp_vae((G,), L, (16,), likelihood=likelihood, outputs=OUTPUTS.get(likelihood, 1), **settings)


@pytest.mark.parametrize("form", ["[B]", "[B, 1]"])
@pytest.mark.parametrize("likelihood", LOG_TOTAL)
def test_functions(likelihood, form):
    recon, mu, logvar = parts(likelihood)
    total = LOG_TOTAL_OF_X if form == "[B]" else LOG_TOTAL_OF_X[:, None]
    given, plain = {"likelihood": likelihood, "log_total": total}, {"likelihood": likelihood}
    mean = with_log_mean(recon)
    close(vk.fused_elbo(recon, X, mu, logvar, **given), vk.fused_elbo(mean, X, mu, logvar, **plain))
    close(vk.nll(recon, X, **given), vk.nll(mean, X, **plain))
    close(vk.log_prob(recon, X, **given), vk.log_prob(mean, X, **plain))
    close(
        vk.FusedELBO(likelihood=likelihood)(recon, X, mu, logvar, log_total=total),
        vk.fused_elbo(mean, X, mu, logvar, **plain),
    )
    terms = vk.fused_elbo(recon, X, mu, logvar, return_terms=True, reduction="none", **given)
    close(terms.nll, vk.nll(mean, X, **plain))
    close(terms.loss, terms.nll + terms.kl)


@pytest.mark.parametrize("likelihood", LOG_TOTAL)
def test_log_prob_of_a_sample_without_counts(likelihood):
    recon, *_ = parts(likelihood)
    total = LOG_TOTAL_OF_X.clone()
    x = X.clone()
    x[1], total[1] = 0, -torch.inf
    leaves = [t.requires_grad_() for t in (*recon, total)]
    for backend in ("auto", "torch"):
        terms = vk.log_prob(tuple(leaves[:-1]), x, likelihood=likelihood, log_total=total, backend=backend)
        assert not terms[1].any()
        grads = torch.autograd.grad(terms.sum(), leaves)
        assert all(g.isfinite().all() and not g[1].any() for g in grads)


def test_log_prob_of_a_multinomial_has_one_term_for_each_sample():
    recon, *_ = parts("multinomial")
    logits = recon[0].requires_grad_()
    terms = vk.log_prob(logits, X, likelihood="multinomial")
    oracle = torch.stack([
        torch.distributions.Multinomial(int(x.sum()), logits=row).log_prob(x)
        for x, row in zip(X, logits, strict=True)
    ])  # fmt: skip
    close(terms, oracle, rtol=1e-5, atol=1e-5)
    for a, b in zip(*(torch.autograd.grad(t.sum(), logits) for t in (terms, oracle)), strict=True):
        close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("likelihood", LOG_TOTAL)
def test_iwae(likelihood):
    recon, mu, logvar = parts(likelihood)
    copies = tuple(r.repeat(4, 1) for r in recon)
    settings = {"n_samples": 4, "likelihood": likelihood, "return_terms": True}
    torch.manual_seed(0)
    ours = vk.iwae(lambda z: copies, X, mu, logvar, log_total=LOG_TOTAL_OF_X, **settings)
    torch.manual_seed(0)
    mean = with_log_mean(copies, LOG_TOTAL_OF_X.repeat(4))
    theirs = vk.iwae(lambda z: mean, X, mu, logvar, **settings)
    close(ours.loss, theirs.loss)
    close(ours.nll, theirs.nll)


@pytest.mark.parametrize("likelihood", LOG_TOTAL)
def test_a_model(likelihood):
    """The loss, reconstruct, sample and log p(x) are those of a decoder that puts out the log-mean."""
    vae = model(likelihood)
    total = LOG_TOTAL_OF_X

    class LogMean(torch.nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.decoder, self.copies = decoder, 1

        def forward(self, z):
            out = self.decoder(z)
            first, *rest = out if isinstance(out, tuple) else (out,)
            return (total.repeat(len(z) // B)[:, None] + first.log_softmax(1), *rest)

    by_hand = vk.VAE(vae.encoder, LogMean(vae.decoder), likelihood=likelihood, latent_shape=(L,))

    def both(ours, theirs):
        torch.manual_seed(3)
        a = ours(vae)
        torch.manual_seed(3)
        close(a, theirs(by_hand), rtol=1e-4, atol=1e-4)

    both(lambda m: m.loss(X, log_total=total), lambda m: m.loss(X))
    both(lambda m: m(X, log_total=total, return_terms=True).nll, lambda m: m(X, return_terms=True).nll)
    both(lambda m: m.reconstruct(X, log_total=total), lambda m: m.reconstruct(X))
    both(lambda m: m.sample(B, log_total=total), lambda m: m.sample(B))
    both(
        lambda m: vk.log_marginal_likelihood(m, X, 7, log_total=total, chunk=3).value,
        lambda m: vk.log_marginal_likelihood(m, X, 7, chunk=3).value,
    )
    if likelihood != "zinb":
        close(vae.reconstruct(X, log_total=total).sum(1), X.sum(1))


@pytest.mark.parametrize("likelihood", [*LOG_TOTAL, "multinomial"])
def test_training_on_raw_counts(likelihood):
    """The loss of counts up to 1e4 is finite from the first step on, and falls."""
    torch.manual_seed(0)
    shares = torch.rand(64, G).pow(4)
    x = torch.poisson(1e4 * shares / shares.sum(1, keepdim=True) * torch.rand(64, 1))
    vae = model(likelihood)
    given = {} if likelihood == "multinomial" else {"log_total": x.sum(1).log()}
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = vae.loss(x, **given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert torch.tensor(losses).isfinite().all() and sum(losses[-5:]) < 4.5 * losses[0]


def test_a_multinomial_model_gives_shares():
    vae = model("multinomial")
    close(vae.reconstruct(X).sum(1), torch.ones(B))
    torch.manual_seed(0)
    value = vk.log_marginal_likelihood(vae, X, 5).value
    assert value.isfinite().all()
    assert vk.diagnose(vae, X.repeat(4, 1), log_p=None).finite


@pytest.mark.parametrize("likelihood", LOG_TOTAL)
def test_the_doctor(likelihood):
    """The figures are those of the loss with log_total, also of a conditional model, and log p(x) is finite."""
    x = torch.poisson(
        torch.rand(40, G, generator=torch.Generator().manual_seed(2)) * torch.linspace(1, 30, 40)[:, None]
    )
    total = x.sum(1).log()
    for condition, settings in ((None, {}), (torch.rand(40, 2), {"condition_dim": 2})):
        vae = model(likelihood, **settings)
        found = vk.diagnose(vae, x, condition=condition, log_total=total, log_p=(10, 8))
        with torch.no_grad():
            nll = torch.stack([
                vae.loss(x, condition=condition, log_total=total, return_terms=True, reduction="none").nll
                for _ in range(50)
            ])  # fmt: skip
        each = nll.mean(1)
        assert abs(found.measures.nll - each.mean()) < 6 * each.std()
        assert found.measures.log_p.value < 0 and vae.training
        with pytest.raises(ValueError, match=r"^log_total: got shape \(39,\), expected \(40,\)"):
            vk.diagnose(vae, x, condition=condition, log_total=total[:39])
    with pytest.raises(ValueError, match=r"^train: got a tensor beside log_total"):
        vk.diagnose(model(likelihood), x, log_total=total, train=x)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: vk.nll(X, X, log_total=LOG_TOTAL_OF_X), ValueError, "log_total: has no effect with likelihood='ber"),
        (
            lambda: vk.nll(X, X, likelihood="multinomial", log_total=LOG_TOTAL_OF_X),
            ValueError,
            "log_total: has no effect with likelihood='multinomial', which takes the total from x",
        ),
        (
            lambda: vk.nll(X, X, likelihood="poisson", log_total=X),
            ValueError,
            r"log_total: got shape \(5, 12\), expected \(5,\) or \(5, 1\)",
        ),
        (
            lambda: vk.nll(X, X, likelihood="poisson", log_total=torch.tensor(1.0)),
            ValueError,
            r"log_total: got shape \(\), expected",
        ),
        (lambda: vk.nll(X, X, likelihood="poisson", log_total=3.0), TypeError, "log_total: got float, expected a ten"),
        (
            lambda: vk.log_prob(X, X, likelihood="poisson", log_total=LOG_TOTAL_OF_X.int()),
            TypeError,
            "log_total: got dtype torch.int32",
        ),
        (
            lambda: vk.nll(X, X, likelihood="multinomial", weight=torch.ones(B, G)),
            ValueError,
            r"weight: got shape \(5, 12\), expected \(5, 1\) or a 0-d tensor: all elements of a sample are one term",
        ),
        (
            lambda: vk.nll(X, X, likelihood="poisson", log_total=LOG_TOTAL_OF_X.to("meta")),
            ValueError,
            "log_total: is on meta, but x is on cpu",
        ),
        (
            lambda: model("bernoulli").loss(X / 40, log_total=LOG_TOTAL_OF_X),
            ValueError,
            "log_total: has no effect",
        ),
        (
            lambda: vk.likelihoods.Multinomial().distribution(X),
            ValueError,
            "likelihood: 'multinomial' has no distribution",
        ),
    ],
)  # fmt: skip
def test_errors(call, error, said):
    with pytest.raises(error, match=said):
        call()
