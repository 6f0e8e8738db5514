"""Export to ONNX of a model that draws z: the translations of our ops, for `torch.onnx.export(dynamo=True)`.

    from vae_kernels.integrations import onnx
    torch.onnx.export(model, (x,), "model.onnx", dynamo=True, custom_translation_table=onnx.translations())

This module needs onnx and onnxscript: `pip install onnx onnxscript`. The noise becomes the op RandomNormalLike, whose
generator belongs to the program that runs the file. So this program draws other numbers than PyTorch does, from the
same distribution.
"""

from collections.abc import Callable
from typing import Any

import torch

from ..backends import compiled  # noqa: F401 - defines the ops


def translations() -> dict[Callable, Callable]:
    """{op: its translation} for `reparameterize`, with the backend "auto" or "cpu", and without n_samples.

    ImportError without onnxscript. The export of a KL, or of n_samples, is a NotImplementedError.
    """
    from onnxscript import opset18 as op  # pyright: ignore[reportMissingImports]

    def sample(mu: Any, logvar: Any, prior: Any, latent_weight: Any, rng: Any, n_samples: int, with_kl: bool) -> Any:
        """z = mu + exp(logvar / 2) * eps"""
        if n_samples or with_kl:
            raise NotImplementedError("vae_kernels: only reparameterize(mu, logvar) is translated, without n_samples")
        half = op.CastLike(op.Constant(value_float=0.5), logvar)
        return (op.Add(mu, op.Mul(op.Exp(op.Mul(logvar, half)), op.RandomNormalLike(mu))),)

    def seed(low: int, high: int, size: Any, **settings: Any) -> Any:
        """The seed of the noise, which `sample` does not read."""
        if (low, high, list(size)) != (-(2**63), 2**63 - 1, [2]):
            raise NotImplementedError("vae_kernels: a torch.randint of the model itself is not translated")
        return op.Constant(value_ints=[0, 0])

    return {torch.ops.vae_kernels.sample.default: sample, torch.ops.aten.randint.low_generator: seed}
