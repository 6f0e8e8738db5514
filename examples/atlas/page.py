"""docs/atlas.md, made from bench/results/atlas/losses.csv."""

import itertools
import textwrap

from .case import ALONE

INTRODUCTION = """\
# Atlas: what the losses of public packages compute

Made by `python examples/audit_atlas.py --docs` from `bench/results/atlas/losses.csv`; do not edit.

We measured {losses} losses of {packages} packages with [`vk.audit`](audit.md): the code that PyPI ships, in the
versions below, with Python {python} and PyTorch {torch}.

**A loss that differs from -ELBO is a choice, not a fault.** For example, the autoencoder of a latent diffusion model
wants a small beta, and a beta-VAE wants a large beta. Defaults are a choice too. The page helps to carry a beta from
one package to another: the same beta in two packages may give two effective betas.

- **Effective beta** is the weight of a sample's KL over the weight of the sample's negative log-likelihood. Both are in
  nats, and both are summed over everything but the batch. 1 is -ELBO. A squared error counts as a Gaussian of
  variance 1.
- If a loss turns one of the two sums into a mean, its effective beta depends on the sizes. The table says the sizes.
- **Noise of z** is the standard deviation of (z - mu) / exp(logvar / 2), where the package draws z from mu and logvar.
  In -ELBO it is 1. A dash means that the package draws z inside a longer function; this noise was not measured.
- **KL gradient** says whether mu and logvar have a gradient by the loss.

| package | loss | effective beta | batch x elements / latents | differs from -ELBO by | noise of z | KL gradient |
{rule}
"""

METHOD = """\
## How it is measured

The adapters are in `examples/atlas/`. An adapter builds the function (recon, x, mu, logvar) -> loss from the package's
own function, and calls this function with random values. Nothing is trained. The settings are the defaults, which the
adapter reads from the package, unless the settings or the note say another value. `vk.audit` finds the weights from the
gradients of the function. `vk.audit` does not read a multinomial likelihood. For such a loss the script itself fits the
gradients of recon, mu and logvar. The paragraph then says "read by gradients", and its largest relative difference is
that of the gradients alone. The file and the line come from `inspect`; a decorator is part of a function.

Most packages are imported. Of some packages only one function is compiled, from the file that the package has
installed. This is for packages whose requirements clash with other packages: the function is the same, and the rest of
the package is not needed. Where a package has the parts of a loss and no loss, the adapter has the sum, and the
paragraph says so.

    pip install ".[atlas]" && python examples/audit_atlas.py
    pip install --no-deps --target apart {apart}
    PYTHONPATH=apart python examples/audit_atlas.py

The second command installs the packages that cannot be beside the others. The CSV keeps the rows of packages that are
not installed.
"""


def text(rows: list[dict]) -> str:
    """The page, from the rows of the CSV."""
    packages = sorted({r["package"] for r in rows}, key=str.lower)
    rows = sorted(rows, key=lambda r: packages.index(r["package"]))  # stable: the losses of a package keep their order
    python, torch = ("; ".join(sorted({r[name] for r in rows})) for name in ("python", "torch"))
    counts = {"losses": len(rows), "packages": len(packages), "python": python, "torch": torch}
    parts = [INTRODUCTION.format(**counts, rule="|---" * 7 + "|")]
    parts += [line(r) + "\n" for r in rows]
    for package, group in itertools.groupby(rows, key=lambda r: r["package"]):
        losses = list(group)
        parts.append(f"\n## {package} {losses[0]['version']}\n\n    {losses[0]['command']}\n")
        parts += [f"\n{wrapped(entry(r))}\n" for r in losses]
    apart = " ".join(sorted({r["package"] for r in rows if r["how"] == ALONE}))
    return "".join(parts) + "\n" + METHOD.format(apart=apart)


def line(r):
    """The line of the table."""
    cells = r["package"], r["loss"], r["effective_beta"] or "not one number", r["shape"], difference(r)
    return f"| {' | '.join(cells)} | {r['noise_std'] or '-'} | {r['kl_gradient']} |"


def difference(r):
    """What the weights of the loss differ by from those of -ELBO."""
    if r["effective_beta"] == "":
        return "its form: see below"
    beta = float(r["effective_beta"])
    parts = [] if beta == 1 else ["no KL"] if beta == 0 else [f"a factor of {r['effective_beta']} at the KL"]
    parts += [] if r["noise_std"] in ("", "1") else ["the noise of z"]
    parts += [r["beside"]] if r["beside"] else []
    return ", and ".join(parts) or "nothing in its weights"


SENTENCES = (
    ("averaged", "Averages"),
    ("differs", "What the audit says"),
    ("beside", "Beside the likelihood and the KL the loss has"),
    ("note", "Note"),
)


def entry(r):
    """The paragraph of a loss."""
    how = "" if r["how"] == "imported" else f" ({r['how']})"
    sentences = [f"**{r['loss']}**: `{r['place']}`{how}."]
    sentences += [f"Settings: {r['settings']}."] if r["settings"] else []
    likelihood = r["likelihood"].replace("_", " ")
    sentences.append(f"Likelihood: {likelihood}; effective beta: {r['effective_beta'] or 'not one number'}.")
    for name, what in SENTENCES:
        sentences += [f"{what}: {r[name]}."] if r[name] else []
    if r["equal"]:
        sentences.append(
            f"The same as `{r['equal']}` (largest relative difference {r['error']}, read by {r['read_by']})."
        )
    return " ".join(sentences)


def wrapped(paragraph):
    return textwrap.fill(paragraph, 128, break_long_words=False, break_on_hyphens=False)
