"""`python -m vae_kernels.timing`: the same as the command `vae-kernels bench`."""

import sys

from .. import cli


def main():
    sys.argv.insert(1, "bench")
    cli.main()


if __name__ == "__main__":
    main()
