"""A small objective whose gradients have a closed form, for the tests of the backward pass."""

import os

import pytest
import torch

import vae_kernels as vk

# The backends that take CPU tensors. Triton takes CPU tensors if its interpreter runs (conftest.py). The backends of a
# GPU are in gpu/test_gpu.py.
BACKENDS = [name for name in ("torch", "cpu") if vk.available_backends()[name] is None]
BACKENDS += filter(None, os.environ.get("VAE_KERNELS_TEST_BACKENDS", "").split(","))  # kernels/test_lean.py
if os.environ.get("TRITON_INTERPRET") == "1" and vk.available_backends()["triton"] is None:
    BACKENDS.append("triton")
B = 5
compiled = pytest.mark.skipif("cpu" not in BACKENDS, reason=f"no backend cpu: {vk.available_backends()['cpu']}")


def draw(dtype=torch.float64):
    """(recon, mu, logvar, x); all but x require grad."""
    g = torch.Generator().manual_seed(0)
    recon, mu, logvar = (torch.randn(B, n, generator=g, dtype=torch.float64) for n in (37, 6, 6))
    x = torch.rand(B, 37, generator=g, dtype=torch.float64)
    return *(t.to(dtype).requires_grad_() for t in (recon, mu, logvar)), x.to(dtype)


def elbo(recon, mu, logvar, x, **settings):
    return vk.fused_elbo(recon, x, mu, logvar, beta=0.5, **settings)


def exact(inputs, weights):
    """The derivatives of sum_b weights_b loss_b by recon, mu and logvar, written by hand."""
    recon, mu, logvar, x = (t.detach().double() for t in inputs)
    w = torch.as_tensor(weights, dtype=torch.float64).expand(B)[:, None]
    return w * (torch.sigmoid(recon) - x), w * 0.5 * mu, w * 0.25 * torch.expm1(logvar)


def assert_grads(grads, expected):
    for g, e in zip(grads, expected, strict=True):
        torch.testing.assert_close(g, e.to(g.dtype))
