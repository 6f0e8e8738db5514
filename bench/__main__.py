"""`python -m bench`: the same as the command `vae-kernels bench`."""

from vae_kernels.timing.__main__ import main

if __name__ == "__main__":
    main()
