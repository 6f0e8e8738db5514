"""User code that the type checkers must accept: a step as the README and docs write it. The code is never run."""

from typing import assert_type

import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.typing import LikelihoodName, Recon, Reduction

x = recon = torch.rand(8, 784)
mu = logvar = torch.zeros(8, 20)
some = x.sum().item() > 0

# The loss, or the loss with its terms
assert_type(vk.fused_elbo(recon, x, mu, logvar), torch.Tensor)
assert_type(vk.fused_elbo(recon, x, mu, logvar, return_terms=False), torch.Tensor)
terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True)
assert_type(terms, vk.ElboTerms)
assert_type(terms.loss, torch.Tensor)
assert_type(terms.nll.mean() + terms.kl.mean(), torch.Tensor)
if terms.kl_per_dim is not None:
    assert_type((terms.kl_per_dim > 0.01).sum(), torch.Tensor)
assert_type(vk.fused_elbo(recon, x, mu, logvar, return_terms=some), torch.Tensor | vk.ElboTerms)

# Settings
z, kl = vk.sample_kl(mu, logvar, n_samples=None, reduction="none", generator=torch.Generator(), shard=(0, 8))
vk.fused_elbo(recon, x, kl=kl, beta=1, rec_weight=torch.tensor(0.5), reduction="sum", backend="torch")
vk.fused_elbo((recon, recon), x, mu, logvar, likelihood="gaussian", free_bits=(0.5, "per_dim"))
vk.fused_elbo(recon.chunk(2, 1), x, mu, logvar, likelihood="laplace", beta=torch.rand(20))
vk.fused_elbo(recon, x, mu, logvar, likelihood="gaussian", obs_logvar=vk.controls.RunningLogvar())
vk.fused_elbo(recon, x, mu, logvar, prior=(mu, logvar), beta=vk.controls.LinearWarmup(100))
warm = vk.controls.Constant(0.5)
both = torch.cat((mu, logvar), 1)
vk.fused_elbo(
    {"loc": recon}, x, moments=both, likelihood=vk.likelihoods.Gaussian(), free_bits=vk.FreeBits(1.0, "per_sample")
)
vk.sample_kl(both, per_dim=True, shard=vk.Shard(0, 8))
vk.gaussian_kl(moments=both, per_dim=True, reduction="sum")
vk.gaussian_kl(mu, logvar, prior=vk.priors.DiagonalGaussian(20), reduction="mean")
vk.nll(recon, x, likelihood="poisson").mean().backward()
assert_type(vk.reparameterize(mu, logvar, n_samples=3), torch.Tensor)

name: LikelihoodName = "zinb"
how: Reduction = "mean"
loss_of = vk.FusedELBO(
    likelihood=name, reduction=how, beta=vk.controls.Cosine(10), free_bits=(torch.tensor(1.0), "batch_mean")
)
assert_type(loss_of(recon, x, mu, logvar), torch.Tensor)
assert_type(loss_of(recon, x, moments=both), torch.Tensor)
assert_type(loss_of(recon, x, kl=kl, return_terms=True), vk.ElboTerms)


# Models
class Encoder(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


vae = vk.VAE(Encoder(), nn.Linear(20, 784), likelihood="bernoulli", latent_shape=20, beta=0.5)
optimizer = torch.optim.Adam(vae.parameters())
assert_type(vae(x), torch.Tensor)
assert_type(vae(x, beta=2.0, return_terms=True), vk.ElboTerms)
assert_type(vae.loss(x, reduction="none", shard=(0, 16)), torch.Tensor)
vae.loss(x, return_terms=True).loss.backward()
mean, variance = vae.encode(x)
assert_type(vae.decode(mean), Recon)
vae.sample(4, generator=torch.Generator()).mean()
small = vk.mlp_vae(
    (1, 28, 28), 10, (100, 50), "continuous_bernoulli", outputs=1, beta=2.0, prior=vk.priors.VampPrior(x, Encoder(), 10)
)
images = vk.conv_vae([3, 32, 32], channels=[16], likelihood="gaussian", obs_logvar=nn.Parameter(torch.zeros(())))

objects = vk.VAE(Encoder(), nn.Linear(20, 784), likelihood=vk.likelihoods.Likelihood.from_dict({"name": "poisson"}))

# Conditions
label = {"digit": torch.zeros(8, 10), "more": (x, x)}
hierarchy = vk.priors.ConditionalGaussian(nn.Linear(10, 40))
cvae = vk.VAE(Encoder(), nn.Linear(30, 784), prior=hierarchy, integers=False, logvar_range=(-10, 5))
assert_type(cvae(x, condition=label), torch.Tensor)
assert_type(cvae.loss(x, condition=label, return_terms=True), vk.ElboTerms)
assert_type(cvae.sample(8, condition=label), torch.Tensor)
cvae.reconstruct(x, condition=label, weight=x > 0)
vk.iwae(cvae.decoder, x, *cvae.encode(x, condition=label), n_samples=4, condition=label, prior=hierarchy).backward()
vk.log_marginal_likelihood(cvae, x, 100, condition=label)
vk.diagnose(cvae, x, condition=label)
vk.mlp_vae((784,), condition_dim=10, logvar_range=(-10.0, 5.0), prior=hierarchy)

# Bounds, parts, controls
bound = vk.iwae(nn.Linear(20, 784), x, mu, logvar, n_samples=8, estimator="dreg")
bound.backward()
evidence = vk.log_marginal_likelihood(vae, x, 100)
assert_type(evidence.value, torch.Tensor)
parts = vk.kl_decomposition(z, mu, logvar, dataset_size=60_000, estimator="weighted")
vk.fused_elbo(recon, x, kl=parts.mutual_information + 6 * parts.total_correlation + parts.dimension_wise_kl.sum(1))
geco = vk.controls.Geco(100.0, speed=1e-3)
geco.update(terms.nll)
warmup = vk.controls.Cyclical(1000, cycles=2, device="cpu")
warmup.step()
print(f"{float(warmup):.3f} {warmup.value.item()} {warmup.at(10)}")
vk.controls.free_bits(vk.controls.kl_per_dim(mu, logvar), warmup, unit="per_group", groups=(4, 16))
vk.controls.capacity(kl, 25.0, unit="batch_mean")
with vk.Monitor(every=10, to=["metrics.csv", print]) as monitor:
    monitor.update(terms, mu=mu, logits={"logits": recon})
with vk.Monitor(likelihood=vk.likelihoods.Bernoulli()) as watching:
    watching.update(terms, x=x)
report = vk.diagnose(vae, x, train=x, history=[3.0, 2, 1.5], log_p=None)
print(report.finite, report.samples, report.measures.kl, report.views.labels)
audit = vk.audit(lambda *batch: batch[0].sum(), (recon, x, mu, logvar), sample=vk.reparameterize)
print(report.level, report["posterior collapse"].evidence, audit.effective_beta, audit)
print(vk.available_backends()["cpu"] is None, vk.pool_bytes() + 1)

# Weights
mask = x > 0
masked: torch.Tensor = vk.fused_elbo(recon, x, mu, logvar, weight=mask, latent_weight=mu > 0)
vk.nll(recon, x, weight=mask).sum().backward()
vk.sample_kl(mu, logvar, latent_weight=mu > 0)
of_iwae: vk.ElboTerms = vk.iwae(vae.decode, x, mu, logvar, n_samples=8, beta=0.5, weight=mask, return_terms=True)
vk.iwae(vae.decode, x, mu, logvar, n_samples=8).backward()

# Draws and hierarchies
draws = recon.expand(8, *recon.shape)
assert_type(vk.nll(draws, x, n_samples=8), torch.Tensor)
assert_type(vk.fused_elbo(draws, x, mu, logvar, n_samples=8, return_terms=True), vk.ElboTerms)
assert_type(vk.FusedELBO()(draws, x, kl=kl, n_samples=8), torch.Tensor)
assert_type(vae.loss(x, n_samples=8), torch.Tensor)
grouped = vk.controls.grouped_kl([kl, kl], free_bits=0.1, balance=True)
vk.fused_elbo(recon, x, kl=grouped.kl)
top_down = vk.models.TopDownVAE((1, 28, 28), (1, 2), likelihood="gaussian", beta=warmup)
print(top_down.bits_per_dim(x), top_down.sample(3, temperature=0.7).shape, vk.Monitor(groups=(1, 2)))
vae.loss(x, weight=mask, return_terms=True).nll.sum()
vae(x, weight=mask).backward()
vk.log_marginal_likelihood(vae, x, weight=mask).value.mean()
vk.gaussian_kl(mu, vk.logvar_of(std=mu.exp()))
