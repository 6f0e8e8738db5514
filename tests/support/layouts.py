"""Layouts in memory of tensors [B, K, H, W], whose dimension 1 has levels or channels."""

import torch

# each function takes a tensor [B, K, H, W] and gives an equal tensor with another layout in memory
LAYOUTS = {
    "innermost": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "innermost, transposed": lambda t: t.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1),
    "transposed": lambda t: t.mT.contiguous().mT,
    "in the middle": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "batch last": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "rows apart": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "every second": lambda t: torch.stack([t, t], -1)[..., 0],
    "shifted": lambda t: torch.cat([t.flatten()[:1], t.flatten()])[1:].view(t.shape),
}
