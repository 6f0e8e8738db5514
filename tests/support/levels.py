"""The cases of the categorical likelihood, for all backends with kernels for it: the inputs and the truth.

The truth is torch's cross_entropy in float64. The error budget is twice the error of the plain-torch formula with that
type.
"""

import torch
import torch.nn.functional as F
from cases import check

import vae_kernels as vk

CATEGORICAL = {"likelihood": "categorical"}
# Numbers of levels: one; fewer than the kernel reads at once (8) and exactly 8; around the 256 of 8 bits; more than one
# run (1024).
LEVELS = [1, 2, 7, 8, 255, 256, 257, 1000, 1500]
# The dimensions of positions, after the batch: none, one, several; odd sizes; more than one block (512).
POSITIONS = [(), (1,), (3, 5), (2, 7, 3), (701,)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TARGETS = [torch.uint8, torch.int16, torch.int32, torch.int64]


def draw(batch, levels, positions, dtype=torch.float32, of_x=torch.int64, seed=0):
    """(logits, x). Some logits are extreme, but every nll is finite."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, levels, (batch, *positions), generator=g)
    if of_x == torch.uint8:
        x %= 256
    logits = torch.randn(batch, levels, *positions, generator=g) * 3
    if batch > 2 and levels > 2:
        logits[0] *= 1000
        logits[1] += 10_000
        x[2] = x[2].clamp(min=1)
        logits[2, 0] = -torch.inf
    return logits.to(dtype), x.to(of_x)


def truth(logits, x):
    """The nll of each sample, [B], in float64. The result is differentiable."""
    loss = F.cross_entropy(logits.double(), x.long(), reduction="none")
    return loss.flatten(1).sum(1) if loss.dim() > 1 else loss


def outcome(f, logits, x):
    """(the nll, the gradient divided by the incoming gradient). The incoming gradient is random, so the division makes
    errors relative to it."""
    logits = logits.detach().requires_grad_()
    nll = f(logits, x)
    incoming = torch.randn(nll.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    (grad,) = torch.autograd.grad(nll, logits, incoming.to(nll.dtype))
    assert grad.dtype == logits.dtype and grad.shape == logits.shape
    by_row = incoming.to(nll.dtype).double().view(-1, *[1] * (logits.dim() - 1))
    return nll, grad.double() / by_row


def compare(backend, logits, x):
    """Compares values and gradients of a backend, with logits in their storage type. The true gradient stays in
    float64: if it were rounded to 16 bits, PyTorch's own error would be 0."""
    settings = [CATEGORICAL | {"backend": b} for b in (backend, "torch")]
    ours, theirs = (outcome(lambda *a, s=s: vk.nll(*a, **s), logits, x) for s in settings)
    value, grad = outcome(truth, logits.double(), x)
    assert ours[0].dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)
    check(ours[0], theirs[0], value, logits.dtype, "nll")
    check(1 + ours[1], 1 + theirs[1], 1 + grad, logits.dtype, "gradient")  # a gradient is between -1 and 1
