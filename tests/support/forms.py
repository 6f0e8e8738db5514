"""The tensors of the programs that look at the code of Triton's kernels."""

import torch


def of_form(shape, form, dtype=torch.float32):
    """A parameter or a weight of this form, for a tensor of this shape; or None."""
    shapes = {"number": (), "row": shape[1:], "sample": (shape[0], *[1] * (len(shape) - 1)), "element": shape}
    return None if form is None else torch.zeros(shapes[form], dtype=dtype)
