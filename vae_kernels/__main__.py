"""`python -m vae_kernels`: the same as the command `vae-kernels`."""

from .cli import main

if __name__ == "__main__":
    main()
