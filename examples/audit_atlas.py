"""Audits the losses of public packages as they ship, with vk.audit: which objective each computes, with which effective
beta.

    pip install ".[atlas]" && python examples/audit_atlas.py              # every package that is installed
    python examples/audit_atlas.py pyod pythae                           # these packages, with the whole reports
    python examples/audit_atlas.py --docs                                # writes docs/atlas.md from the CSV

Some packages clash with others. Install each package that clashes in a folder of its own, without its dependencies:

    pip install --no-deps --target apart lerobot && PYTHONPATH=apart python examples/audit_atlas.py lerobot

The CSV keeps its rows of packages that are not installed here. The adapters are in examples/atlas: each builds the
callable (recon, x, mu, logvar) -> loss from the package's own code.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from atlas import CASES, measure, page

import vae_kernels as vk

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "bench" / "results" / "atlas" / "losses.csv", ROOT / "docs" / "atlas.md"


def main(
    packages: Annotated[
        list[str] | None, typer.Argument(help="names on PyPI; all that are installed by default")
    ] = None,
    out: Annotated[Path, typer.Option(help="the CSV")] = RESULTS,
    docs: Annotated[bool, typer.Option("--docs", help="write docs/atlas.md from the CSV, and measure nothing")] = False,
):
    """Audit the losses of public packages."""
    if docs:
        PAGE.write_text(page.text(measure.read(out)), encoding="utf-8")
        print(f"wrote {PAGE}")
        return
    torch.set_num_threads(1)
    known = {case.package for case in CASES}
    unknown = sorted(set(packages or ()) - known)
    if unknown:
        raise typer.BadParameter(f"got {', '.join(unknown)}, expected names among {', '.join(sorted(known))}")
    rows, absent = [], []
    for case in CASES:
        if packages and case.package not in packages:
            continue
        if case.version is None:
            absent.append(case.package)
            continue
        try:
            rows.append(measure.row(case))
        except ImportError as error:
            print(f"{case.package} {case.version}: cannot be imported here ({error}); its rows of {out.name} stay")
            continue
        beta = rows[-1]["effective_beta"] or "is not one number"
        print(f"{case.package} {case.version}, {case.loss}: effective beta {beta}")
        if packages:
            loss = case.adapter()
            print(vk.audit(loss.call, loss.example), "\n")
    for package in dict.fromkeys(absent):
        print(f"{package}: not installed; its rows of {out.name} stay")
    measure.saved(rows, out)


if __name__ == "__main__":
    typer.run(main)
