"""`python -m bench.gpu`: checks a GPU. The code is vae_kernels/timing/gpu.py."""

import os
import sys

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # triton reads this variable once, at import

from vae_kernels.timing.gpu import main

if __name__ == "__main__":
    main()
