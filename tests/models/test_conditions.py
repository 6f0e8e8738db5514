"""Conditional VAEs: encoder(x, c), decoder(z, c), prior(c).

The oracle is a linear-Gaussian model, whose log p(x|c) and posterior have a closed form:

z|c ~ N(M c, I),  x|z, c ~ N(W z + A c, s^2 I):  log p(x|c) = log N(x; (W M + A) c, W W^T + s^2 I)
"""

import math

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

import vae_kernels as vk
from vae_kernels import priors

close = torch.testing.assert_close
L, D, C, B, S2 = 2, 4, 3, 5, 0.4
DOUBLE = {"dtype": torch.float64}


class Model:
    """The linear-Gaussian model. Every network gets the condition as the pytree that `form` makes of c [B, C]."""

    def __init__(self, form="tensor", autoregressive=False):
        g = torch.Generator().manual_seed(1)
        self.w = torch.linalg.qr(torch.randn(D, L, generator=g, **DOUBLE))[0]  # orthogonal: a diagonal posterior
        self.a, self.m = torch.randn(D, C, generator=g, **DOUBLE), torch.randn(L, C, generator=g, **DOUBLE)
        self.x, self.c = torch.randn(B, D, generator=g, **DOUBLE), torch.randn(B, C, generator=g, **DOUBLE)
        self.form, this = form, self
        self.variance = 1 / (1 + 1 / S2)

        class Encoder(nn.Module):
            def forward(self, x, condition):
                c = this.unpacked(condition)
                mean = c @ this.m.T + this.variance / S2 * (x - c @ (this.a + this.w @ this.m).T) @ this.w
                return torch.cat([mean, torch.full_like(mean, math.log(this.variance))], 1)

        class Decoder(nn.Module):
            def forward(self, z, *others):
                *x, condition = others
                assert len(x) == autoregressive and all(len(t) == len(z) for t in x)
                return z @ this.w.T + this.unpacked(condition) @ this.a.T

        class Prior(nn.Module):
            def forward(self, condition):
                mean = this.unpacked(condition) @ this.m.T
                return mean, torch.zeros_like(mean)

        self.vae = vk.VAE(
            Encoder(),
            Decoder(),
            likelihood="gaussian",
            obs_logvar=math.log(S2),
            prior=priors.ConditionalGaussian(Prior()),
            autoregressive=autoregressive,
        )

    def packed(self, c):
        if self.form == "tensor":
            return c
        return {"label": c[:, 0], "rest": (c[:, 1:2], [c[:, 2:]])}

    def unpacked(self, condition):
        if self.form == "tensor":
            return condition
        return torch.cat([condition["label"][:, None], condition["rest"][0], condition["rest"][1][0]], 1)

    def log_p(self, x, c):
        covariance = self.w @ self.w.T + S2 * torch.eye(D, **DOUBLE)
        return MultivariateNormal(c @ (self.a + self.w @ self.m).T, covariance).log_prob(x)


FORMS = pytest.mark.parametrize("form", ["tensor", "pytree"])
READS = pytest.mark.parametrize("autoregressive", [False, True])


@FORMS
@READS
def test_log_p_of_an_exact_posterior(form, autoregressive):
    """If q is the true posterior, every draw gives log p(x|c), whatever the chunks are. A wrong row of c does not."""
    model = Model(form, autoregressive)
    given = {"condition": model.packed(model.c)}
    truth = model.log_p(model.x, model.c)
    for chunk in (None, 3):
        close(vk.log_marginal_likelihood(model.vae, model.x, 7, chunk=chunk, **given).value, truth)
    if not autoregressive:
        mu, logvar = model.vae.encode(model.x, **given)
        settings = {"likelihood": "gaussian", "obs_logvar": math.log(S2), "prior": model.vae.prior, "reduction": "none"}
        loss = vk.iwae(model.vae.decoder, model.x, mu, logvar, n_samples=6, **settings, **given)
        close(loss, -truth)
    assert (model.log_p(model.x, model.c.roll(1, 0)) - truth).abs().min() > 0.1


@FORMS
@READS
@pytest.mark.parametrize("return_terms", [False, True])
def test_the_loss_is_that_of_torch(form, autoregressive, return_terms):
    model, vae = Model(form, autoregressive), None
    vae = model.vae
    torch.manual_seed(3)
    got = vae(model.x, condition=model.packed(model.c), return_terms=return_terms)
    torch.manual_seed(3)
    mu, logvar = vae.encode(model.x, condition=model.packed(model.c))
    z = vk.reparameterize(mu, logvar)
    posterior = Independent(Normal(mu, (logvar / 2).exp()), 1)
    prior = Independent(Normal(model.c @ model.m.T, torch.ones(B, L, **DOUBLE)), 1)
    nll = -Normal(z @ model.w.T + model.c @ model.a.T, S2**0.5).log_prob(model.x).sum(1)
    close(got.loss if return_terms else got, (nll + kl_divergence(posterior, prior)).mean())


@FORMS
def test_samples_and_reconstructions(form):
    model = Model(form)
    c = model.c[:1].expand(20_000, C)
    drawn = model.vae.sample(20_000, condition=model.packed(c), generator=torch.Generator().manual_seed(0))
    close(drawn.mean(0), (model.c[0] @ (model.a + model.w @ model.m).T), rtol=0, atol=0.04)
    close(torch.cov(drawn.T), model.w @ model.w.T, rtol=0, atol=0.04)
    mu, _ = model.vae.encode(model.x, condition=model.packed(model.c))
    rebuilt = model.vae.reconstruct(model.x, condition=model.packed(model.c))
    close(rebuilt, mu @ model.w.T + model.c @ model.a.T)


class Tagged(nn.Module):
    """An encoder or a decoder that checks that x and c are of the same samples: column 0 of both is the number of the
    sample. The decoder gives column 0 of c as column 0 of its mean, so round trips are checked too."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.layer = decoder, nn.Linear(2, 3) if decoder else nn.Linear(4, 4)
        self.calls = 0

    def forward(self, first, condition):
        self.calls += 1
        if self.decoder:
            return torch.cat([condition[:, :1], self.layer(first)], 1)
        assert torch.equal(first[:, 0], condition[:, 0])
        return self.layer(first)


def test_the_doctor_keeps_samples_and_conditions_together():
    torch.manual_seed(0)
    vae = vk.VAE(Tagged(False), Tagged(True), likelihood="gaussian", latent_shape=2)
    x = torch.randn(40, 4)
    x[:, 0] = torch.arange(40)
    c = torch.cat([x[:, :1], torch.randn(40, 1)], 1)
    diagnosis = vk.diagnose(vae, x, condition=c, batch_size=7, samples=33, log_p=(9, 20))
    assert diagnosis.measures.samples == 33 and diagnosis.measures.log_p.samples == 9
    assert vae.encoder.calls > 2 * 5 and vae.decoder.calls > 5
    with pytest.raises(AssertionError):
        vk.diagnose(vae, x, condition=c.roll(1, 0), log_p=None)


def test_the_doctor_draws_a_conditional_model():
    vae = vk.mlp_vae((1, 6, 6), 2, hidden=(8,), condition_dim=3)
    x, c = torch.rand(20, 1, 6, 6), torch.eye(3)[torch.arange(20) % 3]
    pictures = vk.diagnose(vae, x, condition=c, log_p=None).views.pictures
    assert pictures.samples.shape == (20, 1, 6, 6) and pictures.reconstructions.shape == (8, 1, 6, 6)
    close(pictures.reconstructions, vae.reconstruct(x[:8], condition=c[:8]), rtol=1e-4, atol=1e-5)
    assert pictures.worst_losses[0] == pictures.worst_losses.max() >= pictures.losses.max()
    rows = [int((x == worst).flatten(1).all(1).nonzero()) for worst in pictures.worst]  # each with its own condition
    close(pictures.worst_reconstructions, vae.reconstruct(x[rows], condition=c[rows]), rtol=1e-4, atol=1e-5)


def gaussian_prior(scale):
    network = nn.Linear(1, 4)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([scale, -scale, 0, 0])[:, None])
        network.bias.zero_()
    return network


@pytest.mark.parametrize("collapsed", [True, False])
def test_the_doctor_measures_z_from_the_prior_of_its_condition(collapsed):
    """The posterior mean follows c, as the prior does. If the posterior is the prior, no latent is active and z says
    nothing about x; an encoder that adds x to this mean is active."""

    class Encoder(nn.Module):
        def forward(self, x, c):
            mean = c * torch.tensor([3.0, -3.0]) + (0 if collapsed else 2 * x)
            return mean, torch.full_like(mean, 0.0 if collapsed else -3.0)

    class Decoder(nn.Module):
        def forward(self, z, c):
            return z

    prior = priors.ConditionalGaussian(gaussian_prior(3.0))
    vae = vk.VAE(Encoder(), Decoder(), likelihood="gaussian", prior=prior)
    x, c = torch.randn(500, 2), torch.randn(500, 1)
    m = vk.diagnose(vae, x, condition=c, log_p=None).measures
    if collapsed:
        assert m.active_units == 0 and abs(m.information) < 0.1 and m.aggregate_kl < 0.05 and m.hole_share < 0.12
        assert m.kl < 1e-6
    else:
        assert m.active_units == 2 and m.information > 2


def test_mlp_vae_learns_what_the_condition_says():
    """Digits of noise whose brightness is the condition: with the condition the loss is lower than without."""
    torch.manual_seed(0)
    c = torch.rand(512, 1)
    x = (torch.rand(512, 12) < c).float()
    losses = {}
    for size in (0, 1):
        vae = vk.mlp_vae((12,), 2, hidden=(16,), condition_dim=size, beta=4.0)  # a beta that leaves nothing for z
        adam = torch.optim.Adam(vae.parameters(), 0.01)
        for _ in range(150):
            adam.zero_grad()
            terms = vae(x, condition=c if size else None, return_terms=True)
            terms.loss.backward()
            adam.step()
        losses[size] = terms.nll.mean().item()
    assert losses[1] < losses[0] - 1


X, CONDITION = torch.rand(6, 4), torch.rand(6, 3)


class TwoOfX(nn.Module):
    def forward(self, x, condition):
        return x


class TwoOfZ(nn.Module):
    def forward(self, z, condition):
        return torch.cat([z, z], 1)


def plain():
    return vk.VAE(nn.Linear(4, 4), nn.Linear(2, 4), latent_shape=2)


def conditional(**settings):
    return vk.VAE(TwoOfX(), TwoOfZ(), latent_shape=2, **settings)


def with_prior(**settings):
    return conditional(prior=priors.ConditionalGaussian(nn.Linear(3, 4)), **settings)


ERRORS = {
    "unconditional loss": (
        lambda: plain().loss(X, condition=CONDITION),
        TypeError,
        r"condition: .*encoder \(Linear\) ta",
    ),
    "unconditional sample": (
        lambda: plain().sample(6, condition=CONDITION),
        TypeError,
        r"condition: .*decoder \(Linear",
    ),
    "unconditional mlp": (lambda: vk.mlp_vae((4,)).loss(X, condition=CONDITION), ValueError, "condition: got shape"),
    "missing": (
        lambda: conditional().loss(X),
        TypeError,
        r"condition: got None, but the encoder \(TwoOfX\) takes more",
    ),
    "missing in sample": (lambda: conditional().sample(2), TypeError, "condition: got None, but the decoder"),
    "missing for the prior": (lambda: with_prior().sample(2), TypeError, "condition: got None, .*the prior needs"),
    "missing in the mlp": (
        lambda: vk.mlp_vae((4,), condition_dim=3).loss(X),
        ValueError,
        "condition: got None, expected",
    ),
    "wide": (
        lambda: vk.mlp_vae((4,), condition_dim=2).loss(X, condition=CONDITION),
        ValueError,
        r"condition: got .*6, 3",
    ),
    "batch": (
        lambda: conditional().loss(X, condition=CONDITION[:5]),
        ValueError,
        r"condition: .*\(5, 3\).*batch of x, 6",
    ),
    "n": (lambda: with_prior().sample(5, condition=CONDITION), ValueError, "condition: .*expected the batch of n, 5"),
    "leaf": (lambda: conditional().loss(X, condition={"a": 3}), TypeError, "condition: got int, expected a tensor"),
    "ndarray": (lambda: conditional().loss(X, condition=CONDITION.numpy()), TypeError, "condition: got ndarray"),
    "empty": (lambda: conditional().loss(X, condition=()), ValueError, r"condition: got \(\)"),
    "0-d": (lambda: conditional().encode(X, condition=torch.tensor(3)), ValueError, r"condition: got shape \(\)"),
    "decode": (
        lambda: conditional().decode(X[:, :2], condition=CONDITION[:2]),
        ValueError,
        "condition: .*batch of z, 6",
    ),
    "log p": (
        lambda: vk.log_marginal_likelihood(plain(), X, 4, condition=CONDITION),
        TypeError,
        "condition: got a cond",
    ),
    "log p batch": (
        lambda: vk.log_marginal_likelihood(conditional(), X, 4, condition=CONDITION[:3]),
        ValueError,
        "condition: got shape",
    ),
    "iwae": (
        lambda: vk.iwae(nn.Linear(4, 4), X, X, X, n_samples=2, condition=CONDITION[:2]),
        ValueError,
        "condition: got shape",
    ),
    "iwae prior": (
        lambda: vk.iwae(nn.Linear(4, 4), X, X, X, n_samples=2, prior=priors.ConditionalGaussian(nn.Linear(3, 8))),
        TypeError,
        "condition: got None",
    ),
    "diagnose": (
        lambda: vk.diagnose(conditional(), X, condition=CONDITION[:3]),
        ValueError,
        "condition: .*batch of data",
    ),
    "diagnose missing": (lambda: vk.diagnose(conditional(), X), TypeError, "condition: got None"),
    "autoregressive": (
        lambda: vk.VAE(nn.Linear(4, 4), TwoOfZ(), latent_shape=2).loss(X),
        TypeError,
        "condition: got None.*or autoregressive=True",
    ),
    "fused": (
        lambda: vk.FusedELBO(prior=priors.ConditionalGaussian(nn.Linear(3, 4))),
        TypeError,
        r"prior: a ConditionalGaussian needs its condition",
    ),
    "fused_elbo": (
        lambda: vk.fused_elbo(X, X, X, X, prior=priors.ConditionalGaussian(nn.Linear(3, 8))),
        TypeError,
        r"prior: a ConditionalGaussian needs its condition",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_condition(case):
    make, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        make()


def test_an_error_inside_a_network_stays_as_it_is():
    class Broken(nn.Module):
        def forward(self, x, condition):
            raise TypeError("of the user")

    with pytest.raises(TypeError, match=r"^of the user$"):
        vk.VAE(Broken(), TwoOfZ()).loss(X, condition=CONDITION)

    class Full(nn.Module):
        def forward(self, x, condition):
            raise torch.OutOfMemoryError("no memory for this size")

    with pytest.raises(torch.OutOfMemoryError, match=r"^no memory for this size$"):
        vk.VAE(Full(), TwoOfZ()).loss(X, condition=CONDITION)


@pytest.mark.full
def test_one_graph():
    """torch.compile sees one graph, which it compiles twice for all batch sizes, and computes what eager mode does."""
    vae, counter = with_prior(), torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(vae, fullgraph=True, backend=counter)
    for n in (6, 5, 4, 3):
        torch.manual_seed(0)
        eager = vae.loss(X[:n], condition=CONDITION[:n])
        torch.manual_seed(0)
        close(compiled(X[:n], condition=CONDITION[:n]), eager)
    assert counter.frame_count <= 2
