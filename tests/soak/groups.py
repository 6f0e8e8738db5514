"""The groups of files that mutate.py changes, and the tests that should find the mutants of each group."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PLAIN = lambda name: not name.startswith("triton_")  # noqa: E731
TWIN = lambda name: name.startswith("triton_")  # noqa: E731
# {name of a file: what to select by pytest -k}: the tests that run first for a mutant of this file. Without an entry,
# pytest selects the tests that have the file's own name.
NAMED = {
    **dict.fromkeys(("categorical", "position"), "levels"),
    **dict.fromkeys(("kl", "latent", "lanes"), "latent_dims"),
    **dict.fromkeys(("reparameterize", "sample"), "test_sample"),
    **dict.fromkeys(("elbo", "likelihood", "block_loop", "finish", "maths", "scalar", "tile"), "gaussian and shapes"),
    **dict.fromkeys(("objective", "plan", "grid", "partial_sums", "tickets"), "gaussian and shapes"),
    **dict.fromkeys(("mixture_pack", "mixture_forward", "mixture_backward"), "mixture"),
    **dict.fromkeys(("tiles", "block", "convert", "vector", "gather"), "gaussian and dtypes"),
    **dict.fromkeys(("counts", "launch"), "negative_binomial"),
    **dict.fromkeys(("segments", "segments_request", "table_rows", "mixed", "columns"), "(mixed or tables)"),
    **dict.fromkeys(("discretized_logistic_mixture", "pixel", "pixel_request"), "pixels"),
    "logistic_bin": "pixels or discretized",
    "noise": "bits",
    "rescale": "test_rescale",
}
OTHERS = "poisson or binomial or zinb or laplace or continuous or logistic"


@dataclass(frozen=True)
class Group:
    """number is the number of mutants. builds names what is compiled again for a mutant. stages are lists of arguments
    of pytest, which run one after another."""

    number: int
    files: tuple
    builds: str  # "", "cpu" or "cuda"
    stages: tuple
    functions: object = None


def test(file):
    """The path of a file of tests, which may be in any folder of tests/."""
    (path,) = (ROOT / "tests").glob(f"*/test_{file}.py")
    return path.relative_to(ROOT).as_posix()


def tests(k, *files):
    return [*(test(file) for file in files), "-k", k]


# Left out: the compiled library has only one instruction set here, so tests of another cannot run; and tests that
# compile for a long time.
SLOW = "not instruction_set and not compile and not aot and not memory"
REFERENCE = "not cpu and not triton and not fma and not base and not compile and not instruction_set"
GROUPS = {
    "reference": Group(
        22,
        ("vae_kernels/formulas/[a-z]*.py", "vae_kernels/core/noise.py"),
        "",
        (
            tests(REFERENCE, "formulas", "philox", "levels", "mixture", "mixed", "pixels", "number_of_levels"),
            tests(REFERENCE, "counts", "reals", "api", "noise", "table_arguments"),
        ),
        PLAIN,
    ),
    "C++ formulas": Group(
        26,
        ("csrc/formulas/[b-z]*.h", "csrc/formula.h", "csrc/scalar.h", "csrc/special.h"),
        "cpu",
        (
            tests(f"cpu and {SLOW}", "objective", "levels", "mixed", "pixels", "number_of_levels"),
            tests(f"{SLOW} and not triton", "elementwise", "scalar", "counts", "reals", "mixture"),
        ),
    ),
    "CPU loops": Group(
        28,
        (
            *(
                "csrc/cpu/kernels/*",
                "csrc/cpu/elbo.cpp",
                "csrc/cpu/evaluation.cpp",
                "csrc/cpu/log_prob.cpp",
                "csrc/cpu/position.cpp",
                "csrc/cpu/pixel.cpp",
                "csrc/cpu/mixture.cpp",
            ),
            *("csrc/cpu/decomposition.cpp", "csrc/cpu/sample.cpp", "csrc/cpu/pool.cpp", "csrc/cpu/*.h"),
            *("csrc/layout.h", "csrc/request.h", "csrc/cpu/segments.cpp", "csrc/segments_request.h"),
            "csrc/pixel_request.h",
        ),
        "cpu",
        (
            tests(
                f"not triton and not [torch and {SLOW}",
                *("noise", "levels", "pixels", "pool", "objective", "log_prob", "mixture", "mixed"),
            ),
            tests(f"{SLOW} and not triton", "autograd", "counts", "ops", "aggregate_posterior"),
        ),
    ),
    "pixels": Group(
        16,
        (
            *("csrc/cpu/kernels/pixel.cpp", "csrc/cpu/pixel.cpp", "csrc/pixel_request.h"),
            *("csrc/formulas/discretized_logistic_mixture.h", "csrc/formulas/logistic_bin.h"),
        ),
        "cpu",
        (tests(f"cpu and {SLOW}", "pixels", "number_of_levels"), tests(f"{SLOW} and not triton", "reals", "support")),
    ),
    "noise": Group(6, ("csrc/noise.h",), "cpu", (tests(f"cpu and {SLOW}", "noise"), [test("scalar")])),
    "Triton": Group(
        24,
        ("vae_kernels/backends/triton/*.py", "vae_kernels/formulas/[a-z]*.py"),
        "",
        (
            tests(
                f"triton and {SLOW} and not cpu and not base and not fma",
                "triton_kernels",
                "noise",
                "levels",
                "pixels",
                "number_of_levels",
                "objective",
                "log_prob",
                "mixture",
                "mixed",
            ),
            tests(SLOW, "triton_launch", "autograd"),
        ),
        TWIN,
    ),
    "CUDA on the host": Group(
        20,
        ("csrc/cuda/*.h", "csrc/cuda/*.cpp"),
        "cuda",
        (tests(f"not planted and not ({OTHERS})", "cuda_host"),),
    ),
}


def files_of(group):
    return sorted({p.relative_to(ROOT).as_posix() for pattern in group.files for p in ROOT.glob(pattern)})


def stages_of(group, mutant):
    """The stages of the group. Before these come the tests of the first stage that have the name of the mutant's
    file."""
    *files, _, k = group.stages[0]
    stem = Path(mutant.file).stem
    return [[*files, "-k", f"{NAMED.get(stem, stem)} and {k}"], *group.stages]
