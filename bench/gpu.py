"""`python -m bench.gpu`: the check of a GPU, which is vae_kernels/timing/gpu.py."""

import os
import sys

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read once, when triton is imported

from vae_kernels.timing.gpu import main

if __name__ == "__main__":
    main()
