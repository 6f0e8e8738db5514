"""One call with more than 2^31 elements, where a 32-bit index would overflow: `python -m soak.large` in tests/.

The tensors are bfloat16 with an 8-bit target, 11 GB. An element-wise result must have the bits of a call with a few of
the elements alone. A sum must be the sum of its parts.
"""

import torch

import vae_kernels as vk

from .record import record

N = 2**31 + 1025
TAIL = 5000  # the number of elements that are compared


def likelihood(rows, cols):
    """Checks the nll and its gradient for [rows, cols] > 2^31 elements, without a second matrix of floats."""
    pattern = torch.arange(8191, dtype=torch.float32)
    part = ((pattern - 4095) / 1000).bfloat16()
    repeats = -(-rows * cols // len(part))
    logits = part.repeat(repeats)[: rows * cols].view(rows, cols).requires_grad_()
    x = (pattern % 256).to(torch.uint8).repeat(repeats)[: rows * cols].view(rows, cols)
    nll = vk.nll(logits, x, reduction="sum", backend="cpu")
    (grad,) = torch.autograd.grad(nll, logits)
    with torch.no_grad():
        one = vk.nll(part.double().view(1, -1), (pattern % 256).to(torch.uint8).view(1, -1), backend="torch").item()
        whole, rest = divmod(rows * cols, len(part))
        last = vk.nll(part[None, :rest].double(), (pattern[None, :rest] % 256).to(torch.uint8), backend="torch").item()
    truth = one * whole + last
    # Each float32 lane sums at most 64 values, and the rest is in float64: 64 roundings of 2^-24, and those of the
    # value.
    assert abs(nll.item() - truth) <= 66 * 2.0**-24 * truth, (nll.item(), truth)
    for at in (0, 2**31 - 2500 - (2**31 - 2500) % 2, rows * cols - TAIL):  # the start, across 2^31, the end
        some = slice(at, at + TAIL)
        leaf = logits.detach().flatten()[some].view(1, -1).requires_grad_()
        alone = torch.autograd.grad(vk.nll(leaf, x.flatten()[some].view(1, -1), reduction="sum"), leaf)[0]
        assert torch.equal(grad.flatten()[some], alone[0]), f"the gradient from {at} on"


def sample(rows, cols):
    """Checks z with more than 2^31 elements: rows of z must be those that a shard at the same place draws."""
    mu = torch.linspace(-1, 1, cols).bfloat16().expand(rows, cols)
    z = vk.reparameterize(mu, mu, generator=torch.Generator().manual_seed(0), backend="cpu")
    for first in (0, 2**31 // cols - 1, rows - 3):
        some = mu[:3].contiguous()
        alone = vk.reparameterize(
            some, some, shard=(first, rows), generator=torch.Generator().manual_seed(0), backend="cpu"
        )
        assert torch.equal(z[first : first + 3], alone), f"rows from {first} on"


def main():
    likelihood(1, N)
    likelihood(3, -(-N // 3))
    likelihood(-(-N // 1021), 1021)
    sample(-(-N // 4099) + 3, 4099)  # a few rows after the row of element 2^31
    record("large", "make soak-large", {"elements in one call, more than 2^31": N, "shapes of that size": 4})


if __name__ == "__main__":
    main()
