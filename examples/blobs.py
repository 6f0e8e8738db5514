"""Pictures for the examples, made here so that nothing is downloaded: each has one soft spot at a random place."""

import torch


def blobs(n, size=16, seed=0):
    """n pictures, [n, 1, size, size] uint8."""
    at = torch.rand(n, 2, 1, 1, generator=torch.Generator().manual_seed(seed)) * (size - 1)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = (y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2
    return (255 * torch.exp(-distance / size)).round().to(torch.uint8)[:, None]
