"""The parts of examples/audit_atlas.py: the losses of public packages, how each is measured, and the page."""

from . import cells, disentanglement, graphs, images, measure, modalities, page, recommenders, tables
from .case import CASES

ADAPTERS = cells, graphs, images, disentanglement, modalities, recommenders, tables  # each adds its losses to CASES
__all__ = ["ADAPTERS", "CASES", "measure", "page"]
