"""Timings of the objective beside eager PyTorch and torch.compile: `python -m bench`."""
