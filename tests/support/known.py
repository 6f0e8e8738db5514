"""A small objective whose gradients are known in closed form: for the tests of the backward pass."""

import os

import pytest
import torch

import vae_kernels as vk

# Those that take CPU tensors: Triton's kernels where they run in its interpreter (conftest.py). On a GPU: test_gpu.py
BACKENDS = [name for name in ("torch", "cpu") if vk.available_backends()[name] is None]
if os.environ.get("TRITON_INTERPRET") == "1" and vk.available_backends()["triton"] is None:
    BACKENDS.append("triton")
B = 5
compiled = pytest.mark.skipif("cpu" not in BACKENDS, reason=f"no backend cpu: {vk.available_backends()['cpu']}")


def draw(dtype=torch.float64):
    """recon, mu, logvar that require grad, and x."""
    g = torch.Generator().manual_seed(0)
    recon, mu, logvar = (torch.randn(B, n, generator=g, dtype=torch.float64) for n in (37, 6, 6))
    x = torch.rand(B, 37, generator=g, dtype=torch.float64)
    return *(t.to(dtype).requires_grad_() for t in (recon, mu, logvar)), x.to(dtype)


def elbo(recon, mu, logvar, x, **settings):
    return vk.fused_elbo(recon, x, mu, logvar, beta=0.5, **settings)


def exact(inputs, weights):
    """d/d(recon, mu, logvar) of sum_b weights_b loss_b, by hand."""
    recon, mu, logvar, x = (t.detach().double() for t in inputs)
    w = torch.as_tensor(weights, dtype=torch.float64).expand(B)[:, None]
    return w * (torch.sigmoid(recon) - x), w * 0.5 * mu, w * 0.25 * torch.expm1(logvar)


def assert_grads(grads, expected):
    for g, e in zip(grads, expected, strict=True):
        torch.testing.assert_close(g, e.to(g.dtype))
