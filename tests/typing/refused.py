"""User code with typical mistakes. The type checkers must refuse each line that says so, and no other line."""

import torch

import vae_kernels as vk
from vae_kernels.typing import LikelihoodName

x = recon = torch.rand(8, 784)
mu = logvar = torch.zeros(8, 20)
terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True)
vae = vk.mlp_vae((784,))
loss_of = vk.FusedELBO()

# Names of likelihoods, reductions, units, estimators and backends
vk.fused_elbo(recon, x, mu, logvar, likelihood="bernouli")  # expect: error
vk.nll(recon, x, likelihood="mse")  # expect: error
name: LikelihoodName = "normal"  # expect: error
vk.fused_elbo(recon, x, mu, logvar, reduction="batchmean")  # expect: error
vk.gaussian_kl(mu, logvar, reduction="average")  # expect: error
vk.fused_elbo(recon, x, mu, logvar, backend="gpu")  # expect: error
vk.fused_elbo(recon, x, mu, logvar, free_bits=(0.5, "per_dimension"))  # expect: error
vk.FreeBits(0.5, "per_dims")  # expect: error
vk.controls.free_bits(mu, 0.5, unit="per-dim")  # expect: error
vk.controls.capacity(mu, 25.0, unit="per_dim")  # expect: error
vk.iwae(vae.decode, x, mu, logvar, n_samples=8, estimator="DReG")  # expect: error
vk.kl_decomposition(mu, mu, logvar, dataset_size=100, estimator="mws")  # expect: error
vk.VAE(vae, vae, likelihood="Gaussian")  # expect: error
vk.mlp_vae((784,), likelihood="bce")  # expect: error
vk.FusedELBO(reduction="avg")  # expect: error
vae(x, reduction="batch")  # expect: error

# Arguments that do not exist, or are of another kind
vk.fused_elbo(recon, x, mu, logvar, kl_weight=0.5)  # expect: error
vk.fused_elbo(recon, x, mu, logvar, beta="0.5")  # expect: error
vk.fused_elbo(recon, x, mu, logvar, prior=mu)  # expect: error
vk.fused_elbo(recon, x, mu, logvar, free_bits=0.5)  # expect: error
vk.fused_elbo(recon, x, (mu, logvar))  # expect: error
vk.fused_elbo(recon, x, moments=(mu, logvar))  # expect: error
vk.fused_elbo({"loc": 0.5}, x, mu, logvar)  # expect: error
vk.fused_elbo(recon, x, mu, logvar, likelihood=vk.likelihoods)  # expect: error
vk.sample_kl(mu, logvar, n_samples=2.0)  # expect: error
vk.sample_kl(mu, logvar, shard=vk.Shard(0.5, 1.0))  # expect: error
vk.sample_kl((mu, logvar))  # expect: error
vk.conv_vae((3, 32, 32), betta=2.0)  # expect: error
vk.mlp_vae(784)  # expect: error
loss_of(recon, x, mu, logvar, beta=0.5)  # expect: error
vae.loss(x, kl_weight=0.5)  # expect: error
vk.controls.LinearWarmup(1e4)  # expect: error
vk.controls.Geco(100.0)  # expect: error
vk.priors.MixtureOfGaussians("10", 20)  # expect: error
vk.diagnose(vae, x, labels=[0, 1])  # expect: error

vk.VAE(vae, vae, logvar_range=5.0)  # expect: error
vk.VAE(vae, vae, prior=torch.distributions.Normal(0.0, 1.0))  # expect: error
vk.FusedELBO(prior=vk.priors.ConditionalGaussian(vae))  # expect: error
vae.sample("3")  # expect: error
vae.loss(x, mu)  # expect: error
vk.conv_vae((1, 28, 28), condition_dim=10)  # expect: error

# Results
terms.backward()  # expect: error
terms.kll.mean()  # expect: error
terms.kl_per_dim.sum()  # expect: error
terms.loss = terms.nll  # expect: error
vk.fused_elbo(recon, x, mu, logvar).kl.mean().detach()  # expect: error
vk.sample_kl(mu, logvar).mean()  # expect: error
loss_of(recon, x, mu, logvar, return_terms=True).backward()  # expect: error
vae(x, return_terms=True) / 2  # expect: error
vk.log_marginal_likelihood(vae, x).mean()  # expect: error

# Weights
vk.nll(recon, x, weight=2.0)  # expect: error
vk.nll(recon, x, mask=x > 0)  # expect: error
vk.FusedELBO(weight=x > 0)  # expect: error
vk.logvar_of(1.0)  # expect: error
