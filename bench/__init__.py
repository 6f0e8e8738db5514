"""The published timings: the results, and the code that makes pages of them. `python -m bench` is `vae-kernels
bench`."""
