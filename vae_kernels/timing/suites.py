"""The cases of the published results, in suites. Each suite answers one question."""

import os
import subprocess
import sys
from dataclasses import asdict, replace

import torch

from ..formulas import ALL
from . import masks, results, steps
from .case import Case, needed
from .contenders import known_modes
from .measure import measure
from .rivals import RIVALS

SHAPES = [
    Case(8, 64, 4),
    Case(128, 784, 20),
    Case(256, 3072, 128),
    Case(256, 12288, 128),
    Case(64, 196608, 256),
    Case(1024, 20000, 30),
    Case(8, 0, 4 * 64 * 64, part="sample"),  # the latent of a diffusion model's autoencoder
]
NARROW = [  # few columns, many samples
    Case(8192, 5, 2),
    Case(8192, 10, 2),
    Case(65536, 1, 1),
    Case(65536, 1, 0, part="nll"),
    Case(256, 30, 0, part="nll"),
    Case(2048, 30, 0, part="nll"),
]
WAYS = [  # the step as fused_elbo, and as (nll + kl).mean()
    Case(16, 100, 8),
    Case(100, 900, 32),
    Case(200, 4096, 64, likelihood="gaussian"),
    Case(96, 27648, 100),
    Case(700, 18000, 40, likelihood="gaussian"),
]
MIDDLE = [Case(128, 784, 20), Case(256, 12288, 128)]
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


def dtypes():
    types = [("float32", "uint8"), ("bfloat16", "float32"), ("bfloat16", "uint8")]
    return [replace(case, dtype=dtype, x=x) for case in MIDDLE for dtype, x in types]


def likelihoods():
    """Every likelihood with the parameters that it needs, and with all its parameters if there is a rival for them."""
    for name, formula in ALL.items():
        for outputs in sorted({needed(name), len(formula.PARAMETERS)}):
            if outputs == needed(name) or (name, outputs) in RIVALS:
                shape = {"counts": (128, 4000, 10), "levels": (16, 3072, 128)}.get(formula.SUPPORT, (256, 3072, 128))
                shape = (16, 3072, 128) if formula.KIND == "pixel" else shape
                x = "uint8" if formula.SUPPORT == "levels" else "float32"
                yield Case(*shape, likelihood=name, outputs=outputs, x=x)
    yield Case(128, 20000, 10, likelihood="zinb", outputs=3)


def directions():
    """The loss without sampling: forward, backward and both, with an incoming gradient of 1 and of 0.7."""
    ways = [("forward", 1.0), ("backward", 1.0), ("backward", 0.7), ("both", 1.0), ("both", 0.7)]
    return [replace(c, part="loss", direction=direction, incoming=g) for c in MIDDLE for direction, g in ways]


def helpers():
    """The decomposition of the KL; the loss with free bits in each dimension, and the same loss without."""
    for size in [(64, 0, 10), (100, 0, 16), (256, 0, 10), (512, 0, 32)]:
        yield Case(*size, part="decomposition")
    for size in [(128, 784, 20), (64, 12288, 1024), (16, 196608, 16384)]:
        yield from (Case(*size, part=part) for part in ("free bits", "loss"))


def masked():
    """The likelihood with a weight for each element, and without."""
    for likelihood, outputs, size in (
        ("bernoulli", 1, (256, 3072)),
        ("gaussian", 2, (256, 3072)),
        ("zinb", 3, (128, 2000)),
    ):
        for part in ("nll", *masks.PARTS):
            yield Case(*size, 0, part=part, likelihood=likelihood, outputs=outputs)


def terms():
    """log p of each element, with all parameters of each likelihood."""
    for name, formula in ALL.items():
        if formula.KIND == "row":  # it has no term of an element
            continue
        levels = formula.SUPPORT == "levels"
        shape, x = ((16 if levels or formula.KIND == "pixel" else 512), 3072), "uint8" if levels else "float32"
        yield Case(*shape, 0, part="terms", likelihood=name, outputs=len(formula.PARAMETERS), x=x)


def pixels():
    """The loss and the gradient of the head of VDVAE's decoder: ten logistics for each channel of a pixel."""
    for side in (32, 64):
        for x in ("float32", "uint8"):
            yield Case(16, 3 * side * side, 0, part="nll", likelihood="discretized_logistic_mixture", x=x)


def by_batch():
    return [Case(batch, 784, 20) for batch in (1, 8, 64, 512, 4096, 32768)]


def by_dims():
    return [Case(64, dims, 64) for dims in (64, 512, 4096, 32768, 262144)]


def by_threads():
    powers = [2**i for i in range(10) if 2**i <= (os.cpu_count() or 1)]
    return [replace(case, threads=n) for case in MIDDLE for n in powers]


CASES = {
    "shapes": lambda: SHAPES,
    "narrow": lambda: NARROW,
    "ways": lambda: WAYS,
    "helpers": helpers,
    "masks": masked,
    "terms": terms,
    "pixels": pixels,
    "directions": directions,
    "likelihoods": likelihoods,
    "dtypes": dtypes,
    "malloc": lambda: [Case(64, 196608, 256)],
    "batch": by_batch,
    "dims": by_dims,
    "threads": by_threads,
    "modes": lambda: MIDDLE,
}
FEW = ("batch", "dims", "threads", "modes")  # suites with only the best eager form and our best form
SUITES = ("shapes", "steps", *(name for name in CASES if name != "shapes"))


def rows_of(suite, options, known=frozenset()):
    """The rows of a suite: a list for each case, which is measured when it is asked for. If options.modes is None, the
    suite sets the modes. known: the cases to leave out, as results.case() gives them."""
    options = replace(options, few=options.few or suite in FEW)
    if options.modes is None:
        options = replace(options, modes=known_modes() if suite == "modes" else ("default",))
    of_steps, threads = suite == "steps", torch.get_num_threads()
    for case in steps.CASES if of_steps else CASES[suite]():
        described = steps.described(*case) if of_steps else asdict(case)
        if results.case(described | {"threads": described["threads"] or threads}) not in known:
            found = steps.measure(*case, options) if of_steps else measure(case, options)
            yield [{"suite": suite} | row for row in found]


def apart(suite):
    """The suites that need a process of their own. With "all" each suite gets one, so that no suite finds the heap of
    another. "malloc" needs one because malloc reads its settings when a process begins."""
    if suite == "all":
        return SUITES
    return (suite,) if suite == "malloc" and not KEEPS_MEMORY.items() <= os.environ.items() else ()


def run(names, arguments):
    """Run these suites, each in a new process. Returns the exit status of the first one that fails, or 0."""
    for suite in names:
        extra = KEEPS_MEMORY if suite == "malloc" else {}
        command = [sys.executable, "-m", "vae_kernels", "bench", suite, *arguments]
        status = subprocess.run(command, env=os.environ | extra).returncode
        if status:
            return status
    return 0
