"""The published timings: results, and the pages made of them. `python -m bench` is `vae-kernels bench`."""
