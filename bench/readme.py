"""python -m bench.readme: writes the results into README.md and docs/speed.md, docs/bench.md and the figures."""

import re

from vae_kernels.timing.clients import MODELS

from . import first, tables
from .losses import losses
from .rows import ROOT, comparisons, devices, missing

BEGIN, END = "<!-- python -m bench.readme -->\n", "<!-- end -->"
TRAININGS, BUILD = (f"<!-- python -m bench.readme: {part} -->\n" for part in ("trainings", "build"))
FIGURES = ROOT / "docs" / "bench"
PAGE = ROOT / "docs" / "bench.md"
PARTLY = ROOT / "README.md", ROOT / "docs" / "speed.md"  # pages with generated parts
SHAPES = ("shapes", "narrow", "gpu")
CASES = (*SHAPES, "ways", "helpers", "masks", "terms", "pixels", "dtypes", "likelihoods", "directions")
CASES += ("batch", "dims", "threads", "modes", "malloc")
IN_FULL = (*SHAPES, "ways", "helpers", "masks", "terms", "pixels", "modes", "likelihoods")  # with every contender
SECTIONS = {
    "ways": (
        "Ways to write the step",
        "Most people write `(nll + kl).mean()`. The slower of our two ways is beside the rivals, noise or not.",
    ),
    "helpers": (
        "Free bits, and the decomposition of the KL",
        "Free bits of 0.1 nats in each latent dimension, beside the same loss without. The decomposition is the KL of "
        "a beta-TCVAE.",
    ),
    "masks": (
        "Masks and weights",
        "The likelihood alone, with a weight for each element: one of five elements is missing. Eager code multiplies "
        "the loss of each element by the weight.",
    ),
    "terms": (
        "Element by element",
        "`log_prob` and its gradients, for a loss of one's own, beside `torch.distributions` without checks. Where "
        "torch.distributions has no such class, the rival is the formula in eager code.",
    ),
    "pixels": (
        "Pixels",
        "The head of VDVAE's decoder for 32 x 32 and 64 x 64 pictures, with ten logistics for each channel: "
        '[pixels.md](pixels.md). "peak" is the memory beyond the inputs, of which our gradient is the most.',
    ),
    "dtypes": ("Storage types", "bfloat16 is what autocast leaves: rivals widen it to float32, as autocast does."),
    "likelihoods": (
        "Likelihoods",
        "Each with the parameters it needs, and with all of them. The inverse dispersion of counts is one a gene; four "
        "of five counts are 0.",
    ),
    "directions": (
        "Forward, backward, both",
        "The loss without the sampling. Our backward does little where the incoming gradient is 1, as the forward has "
        "computed the gradient, which is why our forward alone costs more than a forward need.",
    ),
    "threads": ("Threads", ""),
    "modes": ("Modes of torch.compile", "All of them are in the table of contenders below."),
    "malloc": (
        "A malloc that keeps its memory",
        "glibc gives large blocks back to the system, which clears them page by page when they are asked for again: "
        "that is much of what eager PyTorch takes at large sizes. Here it keeps them.",
    ),
}

BOUND = (
    "A faster loss saves at most the share of the loss in the step (Amdahl's law). A measured saving above this bound "
    "can come from memory: the loss by hand makes more large tensors, glibc gives their blocks back to the system, and "
    "the system clears these blocks again in each step. The loss alone is timed without the tensors of the networks."
)
AUTOCAST = (
    "bfloat16: the forward pass is under `torch.autocast`. The loss by hand widens what the networks give to float32; "
    "ours takes the tensors as they come."
)


def where(rows):
    row = rows[0]
    commits = ", ".join(sorted({r["commit"] for r in rows}))
    threads = max(r["threads"] for r in rows)
    threads = f"{threads} thread{'s' * (threads > 1)}"
    return f"{row['device']}, {threads}, PyTorch {row['torch']}, Python {row['python']}, commit {commits}"


def source(path, rows):
    """The results file, and the commands that made it."""
    made = {re.sub(r"^vae-kernels bench \w+", "vae-kernels bench SUITE", r["command"]) for r in rows}
    return f"`bench/results/{path.name}`, suite by suite by {', '.join(f'`{command}`' for command in sorted(made))}"


def section(path, rows):
    """What docs/speed.md has of a machine: the training steps, where we lose, and the sizes with a figure."""
    text = [f"{where(rows)}; {source(path, rows)}."]
    if steps := comparisons(rows, "steps"):
        text += [f"Whole training steps, Adam included. {BOUND}", tables.steps(steps)]
    page = "[their names](bench.md)"
    text += ["**Where we lose.** " + losses(comparisons(rows, *CASES, "steps"), missing(rows), page)]
    text += ["The objective alone:", f"![times faster](bench/{path.stem}.svg)", *speeds(rows)]
    return "\n\n".join(text)


def kept_memory(rows):
    """{key of a case: its comparison with an allocator that keeps its memory}"""
    return {c.key: c for c in comparisons(rows, "malloc") if c.first["allocator"] != "default"}


def speeds(rows):
    """The table of sizes, and the footnote on the allocator if a size was measured with another."""
    kept = kept_memory(rows)
    shapes = comparisons(rows, *SHAPES)
    note = [f"\\* {tables.KEPT}"] if any(c.key in kept for c in shapes) else []
    return [tables.speeds(shapes, kept), *note]


def rendered(page):
    """The text of a page with its generated parts made anew: the trainings, the build, the section of times."""
    sections = "\n\n".join(section(path, rows) for path, rows in devices().items() if comparisons(rows, *SHAPES))
    for begin, text in ((TRAININGS, first.trainings()), (BUILD, first.build()), (BEGIN, sections)):
        if begin in page:
            before, rest = page.split(begin)
            page = f"{before}{begin}{text}\n{rest[rest.index(END) :]}"
    return page


INTRODUCTION = """\
# Timings

Made by `python -m bench.readme` from `bench/results`; do not edit. To measure again (about half an hour; keep the
machine quiet):

    pip install ".[bench]" && python -m bench all --out bench/results && python -m bench.readme

`vae-kernels bench --shape 128x784/20` times your own sizes; `vae-kernels bench --help` says what else.

## How it is measured

- Contenders run in turns, so that a slow minute of the machine is shared by all. A turn is some runs, the first of
  which is not counted: it finds the caches as another contender left them. Medians, with the 20th and 80th percentile.
- Loss and gradients of each contender are checked against float64 before it is timed; "error" is the largest, relative
  to the largest magnitude of what it should be. A rival that is wrong by more than its
  formula's own eps explains (2e-3) is not timed.
- Ours runs twice in each comparison; "noise" is how much the two medians differ. Where a difference is smaller, or
  the ranges from the 20th to the 80th percentile overlap, the tables say "noise" in its place.
- The first run, compilation included, is reported apart. It is without any cache of earlier compilations.
- A run whose threads waited for a processor for more than 2 % of its time is left out. So are the runs beside a control
  that was slow. The control is the same short work for all threads, before and after each turn: it shows other programs
  that use the caches and the memory. After a disturbed turn the next turn is a single run. Where a contender has fewer
  than five runs left, the case is not written, because its ratios would flatter what is fast. `--missing` measures the
  case again.
- Each kind of processor has a file of its own, and so has each width of vectors (AVX2, AVX-512), which a host may hide.
- "of the limit": the bytes that nobody can do without (each input read once, each result written once), at the speed of
  a copy of the reconstruction, measured in the same turns. Small cases fit in the caches, where a copy is very fast.
- "kernels": operators that touch data; for compiled code the kernels that it generates. "peak": memory beyond the
  inputs, by the system's own count, the results included.
- "best eager" is the fastest of all eager forms: that of pytorch/examples (sigmoid, then cross-entropy), the one with
  logits, `F.mse_loss`, `F.gaussian_nll_loss`, torch.distributions, Pyro's TraceMeanField_ELBO. Each is in
  `vae_kernels/timing/rivals.py`. The KL and the sample by hand are in their fastest eager forms.
- "vae_kernels" is the way to write it that the README shows first. "by samples" is the way that most people write:
  `(nll + kl).mean()`, or `nll.mean()`. "Where we lose" compares every way, and the table of contenders has its time.
"""
STEPS = """\
## The training steps

These are the models below. Each model has its loss by hand, as people write it, and ours. Both have the same networks
and the same Adam. The loss is also timed alone, with the sampling and the KL, on the tensors that the networks
gave to the loss.

Every step is checked before it is timed. The loss and its gradients by all weights are compared with the loss by hand
in float64, without noise. Under autocast, the networks round more than a loss does. So in bfloat16 the gradients of
a network (such as the encoder) are one vector, which may have twice the error of the step by hand, and four roundings
of bfloat16. The loss alone is checked on the networks' own outputs, as strictly as all other cases.

"""


def introduction():
    """How everything is measured, and the models whose training steps are timed."""
    models = "\n".join(f"- {client.name}, batch {client.case.batch}: {client.what}." for client in MODELS)
    return f"{INTRODUCTION}\n{STEPS}{models}\n"


def page():
    """The text of docs/bench.md."""
    return introduction() + "".join(f"\n{device_page(path, rows)}" for path, rows in devices().items())


def device_page(path, rows):
    shapes = comparisons(rows, *SHAPES)
    text = [f"## {where(rows)}", f"{source(path, rows)}."]
    if shapes:
        text += ["### Sizes", f"![times faster](bench/{path.stem}.svg)", *speeds(rows), tables.costs(shapes)]
    if steps := comparisons(rows, "steps"):
        text += ["### Training steps", f"{BOUND} {AUTOCAST}", tables.steps(steps), tables.amdahl(steps)]
    if comparisons(rows, "batch"):
        text += ["### Scaling", f"![time against batch and dims](bench/{path.stem}-scaling.svg)"]
    for suite, (title, note) in SECTIONS.items():
        if found := comparisons(rows, suite):
            text += [
                f"### {title}",
                *([note] if note else []),
                TABLES.get(suite, tables.speeds)(found),
            ]
    text += ["### Where we lose", losses(comparisons(rows, *CASES, "steps"), missing(rows))]
    text += [
        "### Every contender",
        tables.contenders(comparisons(rows, *IN_FULL)),
    ]
    return "\n\n".join(text) + "\n"


def by_threads(found):
    """The table of speeds, with the number of threads as the first column."""
    head, rule, *lines = tables.speeds(found).splitlines()
    lines = [f"| {c.first['threads']} {line}" for c, line in zip(found, lines, strict=True)]
    return "\n".join([f"| threads {head}", f"| --- {rule}", *lines])


def with_memory(found):
    """The table of speeds, and that of kernels and memory."""
    return f"{tables.speeds(found)}\n\n{tables.costs(found)}"


TABLES = {"threads": by_threads, "ways": tables.ways, "pixels": with_memory}


def figures():
    """Draws all figures."""
    from . import plots

    for path, rows in devices().items():
        if shapes := comparisons(rows, *SHAPES):
            plots.bars(shapes, kept_memory(rows), FIGURES / f"{path.stem}.svg", path)
        batch, dims = comparisons(rows, "batch"), comparisons(rows, "dims")
        if batch and dims:
            panels = {("batch", "784 dims, 20 latents"): batch, ("dims", "batch 64, 64 latents"): dims}
            plots.curves(panels, FIGURES / f"{path.stem}-scaling.svg", path)


if __name__ == "__main__":
    for path in PARTLY:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    figures()
