"""Every error of the public functions has the right type, and its message names the argument, what came and what is
expected. The last tests show what the package does, and says, without its compiled part."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.core import checks, weights

PACKAGE = Path(vk.__file__).parent
X, MU, NUMBER = torch.rand(4, 3, 2), torch.randn(4, 6), torch.tensor(1.0)
META = {"X": X.to("meta"), "MU": MU.to("meta"), "NUMBER": NUMBER.to("meta")}


def elbo(recon=X, x=X, mu=MU, logvar=MU, **settings):
    return vk.fused_elbo(recon, x, mu, logvar, **settings)


def given(kl, **settings):
    return vk.fused_elbo(X, X, kl=kl, **settings)


def gaussian(recon=X, x=X, **settings):
    return vk.nll(recon, x, likelihood="gaussian", **settings)


def categorical(recon=X, x=None, **settings):
    return vk.nll(recon, LEVEL if x is None else x, likelihood="categorical", **settings)


LEVEL = torch.zeros(4, 2, dtype=torch.int64)
T, V = TypeError, ValueError
DTYPES = "expected one of torch.float32, torch.float64, torch.bfloat16, torch.float16"
# (the call, the type of its error, words that the message contains)
ERRORS = [
    # recon and x
    (lambda: elbo(recon=[[1.0]]), T, "recon: got list, expected a tensor"),
    (lambda: elbo(recon=None), T, "recon: got NoneType, expected a tensor"),
    (lambda: elbo(recon=X.int()), T, f"recon: got dtype torch.int32, {DTYPES}"),
    (lambda: elbo(recon=X.byte()), T, f"recon: got dtype torch.uint8, {DTYPES}"),
    (lambda: elbo(recon=X[:, :2]), V, "recon: got shape (4, 2, 2), expected that of x, (4, 3, 2)"),
    (lambda: elbo(x=X[:1]), V, "recon: got shape (4, 3, 2), expected that of x, (1, 3, 2)"),
    (lambda: elbo(x=X.flatten(1)), V, "recon: got shape (4, 3, 2), expected that of x, (4, 6)"),
    (lambda: elbo(recon=META["X"]), V, "recon: is on meta, but x is on cpu; expected one device"),
    (lambda: elbo(recon=(X, X)), V, "recon: got 2 tensors, expected the bernoulli parameters logits"),
    (lambda: elbo(recon=()), V, "recon: got 0 tensors, expected the bernoulli parameters logits"),
    (lambda: elbo(x=X.tolist()), T, "x: got list, expected a tensor"),
    (lambda: elbo(x=X.to_sparse(), recon=X.to_sparse()), T, "x: got a tensor of layout torch.sparse_coo, expected a"),
    (lambda: elbo(x=X.to_mkldnn(), recon=X.to_mkldnn()), T, "x: got a tensor of layout torch._mkldnn, expected a"),
    (lambda: elbo(mu=torch.nested.nested_tensor([*MU]), logvar=MU), T, "mu: got a nested tensor, expected a dense one"),
    (lambda: vk.sample_kl(MU, MU.to_sparse()), T, "logvar: got a tensor of layout torch.sparse_coo, expected a dense"),
    (lambda: elbo(x=X.cfloat()), T, f"x: got dtype torch.complex64, {DTYPES}, torch.bool, torch.int8"),
    (lambda: vk.nll(X, X.cfloat(), likelihood="poisson"), T, f"x: got dtype torch.complex64, {DTYPES}, torch.bool"),
    (lambda: vk.nll(X, X, likelihood="negative_binomial"), V,
     "recon: the negative_binomial parameter log_inverse_dispersion is missing; expected log_mean, log_inverse"),
    (lambda: vk.nll((X, X), X, likelihood="zinb"), V,
     "recon: the zinb parameter dropout_logits is missing; expected log_mean, log_inverse_dispersion, dropout_logits"),
    (lambda: vk.nll(X[0, 0, 0], X[0, 0, 0]), V, "x: got a 0-d tensor, expected the batch as dimension 0"),
    (lambda: gaussian(recon=(X, X, X)), V, "recon: got 3 tensors, expected the gaussian parameters loc, logvar"),
    (lambda: gaussian(recon=(X, 0.0)), T, "recon[1] (logvar): got float, expected a tensor"),
    (lambda: gaussian(recon=(X.int(), X)), T, f"recon[0] (loc): got dtype torch.int32, {DTYPES}"),
    (lambda: gaussian(recon=(X[0], X)), V, "recon[0] (loc): got shape (3, 2), expected that of x, (4, 3, 2)"),
    (lambda: gaussian(recon=(X, X[:, :2])), V,
     "recon[1] (logvar): got shape (4, 2, 2), expected one that broadcasts to x, (4, 3, 2)"),
    (lambda: gaussian(recon=(X, META["X"])), V, "recon[1] (logvar): is on meta, but x is on cpu"),
    # recon by names
    (lambda: elbo(recon={"logit": X}), V, "recon: got the keys 'logit', expected the bernoulli parameters logits"),
    (lambda: elbo(recon={}), V, "recon: got a mapping without keys, expected the bernoulli parameters logits"),
    (lambda: gaussian(recon={"loc": X, "scale": X}), V,
     "recon: got the keys 'loc', 'scale', expected the gaussian parameters loc, logvar"),
    (lambda: gaussian(recon={"loc": X, 1: X}), V, "recon: got the keys 'loc', 1, expected the gaussian parameters loc"),
    (lambda: gaussian(recon={"logvar": X}), V,
     "recon: the gaussian parameter loc is missing: got 'logvar'; expected loc, logvar"),
    (lambda: vk.nll({"log_mean": X, "dropout_logits": X}, X, likelihood="zinb"), V,
     "recon: the zinb parameter log_inverse_dispersion is missing: got 'log_mean', 'dropout_logits'; expected"),
    (lambda: gaussian(recon={"loc": X.int()}), T, f"recon['loc']: got dtype torch.int32, {DTYPES}"),
    (lambda: gaussian(recon={"loc": X[0]}), V, "recon['loc']: got shape (3, 2), expected that of x, (4, 3, 2)"),
    (lambda: gaussian(recon={"loc": X, "logvar": X[:, :2]}), V,
     "recon['logvar']: got shape (4, 2, 2), expected one that broadcasts to x, (4, 3, 2)"),
    (lambda: gaussian(recon={"loc": X, "logvar": META["X"]}), V, "recon['logvar']: is on meta, but x is on cpu"),
    (lambda: gaussian(recon={"loc": X, "logvar": X}, obs_logvar=X), V,
     "obs_logvar: given beside recon['logvar']; expected one of the two"),
    (lambda: categorical(recon={"loc": X}), V, "recon: got the keys 'loc', expected the categorical parameters logits"),
    (lambda: categorical(recon={"logits": X[:3]}), V, "recon['logits']: got shape (3, 3, 2), expected (4, K, 2)"),
    # logits over levels
    (lambda: categorical(x=LEVEL.float()), T, "x: got dtype torch.float32, expected one of torch.bool, torch.int8, "
     "torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64"),
    (lambda: categorical(recon=LEVEL), T, f"recon: got dtype torch.int64, {DTYPES}"),
    (lambda: categorical(recon=X[0, 0, 0], x=LEVEL[0, 0]), V, "x: got a 0-d tensor, expected the batch as dimension 0"),
    (lambda: categorical(recon=(X, X)), V, "recon: got 2 tensors, expected the categorical parameters logits"),
    (lambda: categorical(recon=X[:, :, 0]), V, "recon: got shape (4, 3), expected (4, K, 2): that of x, (4, 2), with"),
    (lambda: categorical(recon=X[:, None]), V, "recon: got shape (4, 1, 3, 2), expected (4, K, 2)"),
    (lambda: categorical(recon=X[:3]), V, "recon: got shape (3, 3, 2), expected (4, K, 2)"),
    (lambda: categorical(recon=X.mT), V, "recon: got shape (4, 2, 3), expected (4, K, 2)"),
    (lambda: categorical(recon=X[:, :0]), V,
     "recon: got shape (4, 0, 2), expected at least one level along dimension 1"),
    (lambda: categorical(recon=META["X"]), V, "recon: is on meta, but x is on cpu; expected one device"),
    (lambda: categorical(obs_logvar=0.0), V, "obs_logvar: has no effect with likelihood='categorical'"),
    (lambda: vk.fused_elbo(X, LEVEL, MU[:3], MU[:3], likelihood="categorical"), V,
     "mu: got shape (3, 6), expected the batch of x, 4, as dimension 0"),
    # words
    (lambda: elbo(likelihood="normal"), V, "likelihood: got 'normal', expected one of 'bernoulli', 'gaussian'"),
    (lambda: elbo(likelihood="mixed"), V, "likelihood: got 'mixed', expected an object with columns, vk.likelihoods."),
    (lambda: elbo(likelihood="bernouli"), V, "'discretized_logistic_mixture'; did you mean 'bernoulli'?"),
    (lambda: gaussian(reduction="Mean"), V, "reduction: got 'Mean', expected one of 'none', 'mean', 'sum'; did you"),
    *((lambda f=f: f(vk.likelihoods.Gaussian), T, "likelihood: got the class Gaussian, expected an object, Gaussian()")
      for f in (lambda name: elbo(likelihood=name), lambda name: vk.nll(X, X, likelihood=name))),
    (lambda: elbo(likelihood=vk.likelihoods.Likelihood()), V, "likelihood: got '', expected one of 'bernoulli'"),
    (lambda: elbo(likelihood=["bernoulli"]), V,
     "likelihood: got ['bernoulli'], expected one of 'bernoulli', 'gaussian'"),
    (lambda: elbo(likelihood=None), V, "likelihood: got None, expected one of"),
    *((lambda f=f: f(reduction="batchmean"), V, "reduction: got 'batchmean', expected one of 'none', 'mean', 'sum'")
      for f in (elbo, gaussian, lambda **k: vk.gaussian_kl(MU, MU, **k), lambda **k: vk.sample_kl(MU, MU, **k))),
    (lambda: elbo(reduction=None), V, "reduction: got None, expected one of 'none', 'mean', 'sum'"),
    *((lambda f=f: f(backend="triton2"), V,
       "backend: got 'triton2', expected \"auto\" or one of ['cpu', 'cuda', 'lean', 'torch', 'triton']")
      for f in (elbo, gaussian, lambda **k: vk.gaussian_kl(MU, MU, **k), lambda **k: vk.sample_kl(MU, MU, **k),
                lambda **k: vk.reparameterize(MU, MU, **k))),
    (lambda: elbo(backend=["cpu"]), V, "backend: got ['cpu'], expected \"auto\" or one of"),
    # obs_logvar
    (lambda: elbo(obs_logvar=0.0), V, "obs_logvar: has no effect with likelihood='bernoulli'"),
    (lambda: gaussian(recon=(X, X), obs_logvar=X), V,
     "obs_logvar: given beside recon[1] (logvar); expected one of the two"),
    (lambda: gaussian(obs_logvar="0"), T, "obs_logvar: got str, expected a number or a tensor"),
    (lambda: gaussian(obs_logvar=True), T, "obs_logvar: got bool, expected a number or a tensor"),
    (lambda: gaussian(obs_logvar=float("nan")), V, "obs_logvar: got nan, expected a finite number"),
    (lambda: gaussian(obs_logvar=float("-inf")), V, "obs_logvar: got -inf, expected a finite number"),
    (lambda: gaussian(obs_logvar=1e300), V, "obs_logvar: got 1e+300, expected a number that torch.float32 holds"),
    (lambda: gaussian(obs_logvar=NUMBER.int()), T, f"obs_logvar: got dtype torch.int32, {DTYPES}"),
    (lambda: gaussian(obs_logvar=META["NUMBER"]), V, "obs_logvar: is on meta, but x is on cpu"),
    (lambda: gaussian(obs_logvar=X[0, :, 0]), V,
     "obs_logvar: got shape (3,), expected one that broadcasts to x, (4, 3, 2)"),
    (lambda: gaussian(obs_logvar=X[None]), V,
     "obs_logvar: got shape (1, 4, 3, 2), expected one that broadcasts to x, (4, 3, 2)"),
    # the posterior
    (lambda: elbo(mu=1.0), T, "mu: got float, expected a tensor"),
    (lambda: vk.sample_kl(MU.long(), MU), T, f"mu: got dtype torch.int64, {DTYPES}"),
    (lambda: vk.sample_kl(MU[:, :5]), V,
     "mu: got shape (4, 5) and no logvar, expected [B, 2L, ...]: mu, then logvar, along dimension 1"),
    (lambda: vk.reparameterize(MU[0]), V, "mu: got shape (6,) and no logvar, expected [B, 2L, ...]"),
    (lambda: vk.sample_kl(MU, prior=(MU, MU)), V,
     "prior[0] (mu): got shape (4, 6), expected one that broadcasts to mu, (4, 3)"),
    (lambda: vk.reparameterize(MU, 0.0), T, "logvar: got float, expected a tensor"),
    (lambda: vk.gaussian_kl(MU, MU[:, :3]), V, "logvar: got shape (4, 3), expected that of mu, (4, 6)"),
    (lambda: vk.gaussian_kl(MU, META["MU"]), V, "logvar: is on meta, but mu is on cpu; expected one device"),
    (lambda: vk.gaussian_kl(NUMBER, NUMBER), V, "mu: got a 0-d tensor, expected the batch as dimension 0"),
    (lambda: elbo(mu=MU[:3], logvar=MU[:3]), V, "mu: got shape (3, 6), expected the batch of x, 4, as dimension 0"),
    (lambda: elbo(mu=META["MU"], logvar=META["MU"]), V, "mu: is on meta, but x is on cpu"),
    (lambda: elbo(mu=None), V,
     "mu, logvar, kl: expected mu and logvar, or kl, or moments; for the likelihood alone there is nll()"),
    (lambda: elbo(logvar=None), T, "logvar: got None, expected a tensor; one tensor [B, 2L, ...] with both is given a"),
    (lambda: vk.fused_elbo(X, X), V, "mu, logvar, kl: expected mu and logvar, or kl"),
    # weights
    (lambda: elbo(weight=2.0), T, "weight: got float, expected a tensor, bool or floating, that broadcasts to x"),
    (lambda: elbo(weight=X.long()), T, "weight: got dtype torch.int64, expected a mask, weight.bool(), or weights of"),
    (lambda: elbo(weight=X.to_sparse()), T, "weight: got a tensor of layout torch.sparse_coo, expected a dense one"),
    (lambda: elbo(weight=META["X"]), V, "weight: is on meta, but x is on cpu"),
    (lambda: elbo(weight=X[:3]), V, "weight: got shape (3, 3, 2), expected one that broadcasts to x, (4, 3, 2)"),
    (lambda: elbo(weight=X[None]), V, "weight: got shape (1, 4, 3, 2), expected one that broadcasts to x, (4, 3, 2)"),
    (lambda: elbo(weight=X[:, 0, 0]), V, "weight: got shape (4,), expected one that broadcasts to x, (4, 3, 2); a "
     "weight for each sample has the shape (4, 1, 1)"),
    (lambda: categorical(weight=torch.ones(3)), V, "weight: got shape (3,), one number for each level; expected a "
     "weight for each position, which broadcasts to x. Write weight[x]"),
    (lambda: elbo(latent_weight=X), V, "latent_weight: got shape (4, 3, 2), expected one that broadcasts to mu, (4, 6"),
    (lambda: vk.sample_kl(MU, MU, latent_weight=2.0), T, "latent_weight: got float, expected a tensor, bool or floati"),
    (lambda: vk.sample_kl(MU, MU, per_dim=True, latent_weight=X), V, "latent_weight: got shape (4, 3, 2), expected on"),
    (lambda: vk.gaussian_kl(MU, MU, latent_weight=MU[:3]), V, "latent_weight: got shape (3, 6), expected one that"),
    (lambda: given(MU[:, 0], latent_weight=MU > 0), V, "latent_weight: has no effect with kl=; give the weight to the"),
    (lambda: weights.check_mask("weight", X, X, "x"), T, "weight: got dtype torch.float32, expected a mask, torch.boo"),
    # mu and logvar in one tensor
    (lambda: elbo(moments=MU), V, "moments: given beside mu; expected one or the other"),
    (lambda: elbo(mu=None, moments=MU), V, "moments: given beside logvar; expected one or the other"),
    (lambda: vk.fused_elbo(X, X, kl=MU[:, 0], moments=MU), V, "moments: given beside kl; expected one or the other"),
    (lambda: vk.gaussian_kl(MU, moments=MU), V, "moments: given beside mu; expected one or the other"),
    (lambda: vk.fused_elbo(X, X, moments=MU[:, :5]), V,
     "moments: got shape (4, 5), expected [B, 2L, ...]: mu, then logvar, along dimension 1"),
    (lambda: vk.gaussian_kl(moments=MU[0]), V, "moments: got shape (6,), expected [B, 2L, ...]"),
    (lambda: vk.gaussian_kl(moments=MU.long()), T, f"moments: got dtype torch.int64, {DTYPES}"),
    (lambda: vk.fused_elbo(X, X, moments=0.0), T, "moments: got float, expected a tensor"),
    (lambda: vk.fused_elbo(X, X, moments=MU[:3]), V, "mu: got shape (3, 3), expected the batch of x, 4"),
    (lambda: vk.gaussian_kl(), T, "mu: got NoneType, expected a tensor"),
    (lambda: vk.gaussian_kl(MU), T, "logvar: got None, expected a tensor; one tensor [B, 2L, ...] with both is given"),
    # the KL of each dimension
    (lambda: vk.gaussian_kl(MU, MU, per_dim=1), T, "per_dim: got int, expected True or False"),
    (lambda: vk.sample_kl(MU, MU, per_dim=None), T, "per_dim: got NoneType, expected True or False"),
    (lambda: vk.gaussian_kl(MU, MU, per_dim=True, reduction="batchmean"), V, "reduction: got 'batchmean', expected"),
    (lambda: vk.sample_kl(MU, MU, per_dim=True, prior=vk.priors.MixtureOfGaussians(2, 6)), T,
     "per_dim: got True, expected False with MixtureOfGaussians: its KL has no closed form"),
    (lambda: vk.sample_kl(NUMBER, NUMBER, per_dim=True, shard=(0, 1)), V, "mu: got a 0-d tensor, expected the batch"),
    # kl
    (lambda: elbo(kl=MU[:, 0]), V, "kl: given beside mu or logvar; expected one or the other"),
    (lambda: elbo(mu=None, kl=MU[:, 0]), V, "kl: given beside mu or logvar; expected one or the other"),
    (lambda: given(MU, prior=(MU, MU)), V, "prior: has no effect with kl="),
    (lambda: given(0.0), T, "kl: got float, expected a tensor"),
    (lambda: given(MU.long()), T, f"kl: got dtype torch.int64, {DTYPES}"),
    (lambda: given(NUMBER), V, "kl: got shape (), expected the batch of x, 4, as dimension 0"),
    (lambda: given(MU[:3]), V, "kl: got shape (3, 6), expected the batch of x, 4, as dimension 0"),
    (lambda: given(META["MU"]), V, "kl: is on meta, but x is on cpu"),
    # prior
    (lambda: elbo(prior=MU), T, "prior: got Tensor, expected None or a pair of tensors (mu, logvar)"),
    (lambda: elbo(prior=(MU,)), T, "prior: got 1 tensors, expected None or a pair of tensors (mu, logvar)"),
    (lambda: vk.sample_kl(MU, MU, prior="normal"), T,
     "prior: got str, expected None or a pair of tensors (mu, logvar)"),
    (lambda: elbo(prior=(0.0, 0.0)), T, "prior[0] (mu): got float, expected a tensor"),
    (lambda: elbo(prior=(MU, MU.long())), T, f"prior[1] (logvar): got dtype torch.int64, {DTYPES}"),
    (lambda: elbo(prior=(MU[:3], MU)), V,
     "prior[0] (mu): got shape (3, 6), expected one that broadcasts to mu, (4, 6)"),
    (lambda: vk.gaussian_kl(MU, MU, prior=(MU, MU[None])), V,
     "prior[1] (logvar): got shape (1, 4, 6), expected one that broadcasts to mu"),
    (lambda: elbo(prior=(META["MU"], MU)), V, "prior[0] (mu): is on meta, but mu is on cpu"),
    # weights
    (lambda: elbo(beta="1"), T, "beta: got str, expected a number or a tensor"),
    (lambda: elbo(beta=None), T, "beta: got NoneType, expected a number or a tensor"),
    (lambda: elbo(beta=True), T, "beta: got bool, expected a number or a tensor"),
    (lambda: elbo(beta=-0.1), V, "beta: got -0.1, expected a number >= 0"),
    (lambda: elbo(beta=float("inf")), V, "beta: got inf, expected a finite number"),
    (lambda: elbo(beta=-(10**400)), V, "beta: got an integer of 1329 bits, expected a finite number"),
    (lambda: elbo(free_bits=0.5), T, "free_bits: got 0.5, expected None or a pair (nats, unit), unit one of"),
    (lambda: elbo(free_bits=(0.5, "per_batch")), V,
     "free_bits[1] (unit): got 'per_batch', expected one of 'per_dim', 'per_sample', 'per_batch_mean', 'per_group', "
     "'batch_mean'; did you mean 'per_batch_mean'?"),
    (lambda: elbo(return_terms=None), T, "return_terms: got NoneType, expected True or False"),
    (lambda: elbo(return_terms=NUMBER), T, "return_terms: got Tensor, expected True or False"),
    (lambda: elbo(beta=NUMBER.long()), T, f"beta: got dtype torch.int64, {DTYPES}"),
    (lambda: elbo(beta=MU[0, :3]), V, "beta: got shape (3,), expected one that broadcasts to the latent dims, (6,)"),
    (lambda: elbo(beta=MU), V, "beta: got shape (4, 6), expected one that broadcasts to the latent dims, (6,)"),
    (lambda: given(MU[:, 0], beta=MU[0]), V, "beta: got shape (6,), expected one that broadcasts to a number, ()"),
    (lambda: elbo(beta=META["NUMBER"]), V, "beta: is on meta, but x is on cpu"),
    (lambda: elbo(rec_weight=-1), V, "rec_weight: got -1, expected a number >= 0"),
    (lambda: elbo(rec_weight=float("nan")), V, "rec_weight: got nan, expected a finite number"),
    (lambda: elbo(rec_weight=[1.0]), T, "rec_weight: got list, expected a number or a tensor"),
    (lambda: elbo(rec_weight=MU[0]), V, "rec_weight: got shape (6,), expected one that broadcasts to a number, ()"),
    (lambda: elbo(rec_weight=META["NUMBER"]), V, "rec_weight: is on meta, but x is on cpu"),
    # noise
    *((lambda n=n: vk.reparameterize(MU, MU, n_samples=n), V, f"n_samples: got {n!r}, expected None or an integer >= 1")
      for n in (0, -1, 2.0, True, 2**31)),
    (lambda: vk.sample_kl(MU, MU, generator=7), T, "generator: got int, expected a torch.Generator"),
    (lambda: vk.sample_kl(META["MU"], META["MU"], generator=torch.Generator()), V,
     "generator: is on cpu, but mu is on meta"),
    *((lambda s=s: vk.sample_kl(MU, MU, shard=s), T, f"shard: got {s!r}, expected None or a pair of integers (first, t")
      for s in (4, (0.0, 4), (0, 4, 4))),
    *((lambda s=s: vk.sample_kl(MU, MU, shard=s), V, f"shard: got {s}, expected 0 <= first <= total - 4, the batch of")
      for s in ((-1, 8), (5, 8), (0, 3))),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, words", ERRORS, ids=[words for _, _, words in ERRORS])
def test_error(call, kind, words, monkeypatch):
    for module in (backends.compiled, backends.reference):
        for name in ("elbo", "sample_kl"):
            monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("something was computed before the check"))
    with pytest.raises(kind, match=re.escape(words)):
        call()


@pytest.mark.parametrize("module", [checks, weights])
def test_every_check_is_tried(module):
    """For each `raise` in the module there is a row above that reaches it."""
    lines = Path(module.__file__).read_text().splitlines()
    reached = set()
    for call, _, _ in ERRORS:
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        last = error.traceback[-1]
        if Path(last.path) == Path(module.__file__):
            # Python reports one of the lines of a raise that spans several lines: go up to its first line
            at = last.lineno
            while "raise" not in lines[at]:
                at -= 1
            reached.add(at + 1)
    raises = {i for i, line in enumerate(lines, 1) if line.lstrip().startswith("raise")}
    assert raises == reached


# --- backends


@pytest.mark.parametrize("name", [None, ["cpu"], np.ones(2), "gpu"], ids=str)
def test_a_backend_that_is_none(name):
    mixture = functools.partial(vk.mixture_log_prob, MU, MU, MU)
    for call in (elbo, gaussian, functools.partial(vk.sample_kl, MU, MU), mixture):
        with pytest.raises(ValueError, match=r'^backend: got .*, expected "auto" or one of'):
            call(backend=name)


def test_available_backends_is_a_copy():
    found = vk.available_backends()
    assert found["torch"] is None and set(found) == {"torch", "lean", "cpu", "cuda", "triton"}
    found["torch"] = "broken by the caller"
    assert vk.available_backends()["torch"] is None


@pytest.mark.skipif(vk.available_backends()["cpu"] is not None, reason=str(vk.available_backends()["cpu"]))
def test_an_explicit_backend_is_not_replaced():
    with pytest.raises(ValueError, match="backend='cpu' cannot be used: a tensor is on meta"):
        vk.gaussian_kl(META["MU"], META["MU"], backend="cpu")
    assert vk.gaussian_kl(META["MU"], META["MU"]).device.type == "meta"  # "auto" takes torch


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(backends.choice._MISSING, "cpu", "the compiled library was not built")
    assert torch.equal(elbo(), elbo(backend="lean"))  # "auto"
    for call in (elbo, gaussian, lambda **k: vk.sample_kl(MU, MU, **k)):
        with pytest.raises(ValueError, match="backend='cpu' cannot be used: the compiled library was not built"):
            call(backend="cpu")


def test_reasons(monkeypatch, tmp_path):
    monkeypatch.setattr(backends.choice, "_LIBRARY", tmp_path / "_C.so")
    monkeypatch.setattr(backends.choice, "_REASON", tmp_path / "_C.reason.txt")
    assert backends.choice._load() == "the compiled library was not built"
    (tmp_path / "_C.reason.txt").write_text("no working C++20 compiler: g++\n")
    assert backends.choice._load() == "no working C++20 compiler: g++"
    (tmp_path / "_C.so").write_text("not a library")
    assert backends.choice._load().startswith("the compiled library does not load: ")


@pytest.mark.skipif(not (PACKAGE / "_C.so").exists(), reason="the compiled library was not built")
def test_no_gil_is_a_reason(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert backends.choice._load() == "the compiled library was not tried without the GIL, which PYTHON_GIL=1 keeps"


@pytest.mark.skipif(not (PACKAGE / "_C.so").exists(), reason="the compiled library was not built")
def test_a_wrong_instruction_set_is_a_reason(monkeypatch):
    monkeypatch.setenv("VAE_KERNELS_ISA", "avx3")
    assert backends.choice._load() == "VAE_KERNELS_ISA=avx3: expected base, avx2 or avx512"


@pytest.mark.full  # it copies the package and imports torch anew
def test_a_package_without_its_library_imports_and_works(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "vae_kernels", ignore=shutil.ignore_patterns("_C.*", "__pycache__"))
    code = """if True:
        import torch, vae_kernels as vk
        x, mu = torch.rand(4, 3), torch.randn(4, 2, requires_grad=True)
        z, kl = vk.sample_kl(mu, mu)
        vk.fused_elbo(x, x, kl=kl, backend="torch").backward()
        assert mu.grad.isfinite().all()
        torch.compile(vk.fused_elbo, fullgraph=True, backend="aot_eager")(x, x, mu, mu).backward()
        print(vk.__file__, vk.available_backends()["cpu"], sep="|")
    """
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, reason = done.stdout.strip().split("|")
    assert Path(file).is_relative_to(tmp_path) and reason == "the compiled library was not built"
