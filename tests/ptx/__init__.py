"""Runs the GPU kernels on a CPU, as PTX, and checks what they do to memory. README.md says more.

python -m tests.ptx        in the root of a checkout
"""
