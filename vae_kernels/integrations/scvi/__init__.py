"""scvi-tools with the kernels of this package. Install scvi-tools: pip install "vae-kernels[scvi]".

    from vae_kernels.integrations.scvi import attach, detach, patch

    model = attach(scvi.model.SCVI(adata))  # the likelihood of a training step is one fused op, until detach(model)
    model.train()

    with patch():  # any model of scvi-tools: log p of counts, element by element, is ours
        other.train()

attach is faster than patch, and takes the models whose loss it knows. docs/scvi.md says which models these are.

attaching.py  attach, detach, load
modules.py    the training steps: one class for each class of modules
known.py      which methods of scvi-tools are known, by their source
steps.py      what the training steps share
log_probs.py  patch
"""

from importlib import metadata

try:
    metadata.version("scvi-tools")
except metadata.PackageNotFoundError as error:
    raise ImportError('scvi-tools: not installed: pip install "vae-kernels[scvi]"') from error

from .attaching import attach, detach, load
from .known import VERSIONS
from .log_probs import patch
from .steps import LIKELIHOODS

__all__ = ["LIKELIHOODS", "VERSIONS", "attach", "detach", "load", "patch"]
