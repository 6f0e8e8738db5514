"""The dtypes that a device has."""

import torch


def widest(device: torch.device | str) -> torch.dtype:
    """The dtype of long sums on a device: float64, or float32 on the GPU of a Mac, which has no float64."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64
