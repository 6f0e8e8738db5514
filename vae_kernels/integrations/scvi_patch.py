"""The old place of patch(), which is vae_kernels.integrations.scvi.patch now."""

from .scvi.log_probs import patch

__all__ = ["patch"]
