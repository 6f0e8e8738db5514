"""Executes notebooks of this folder again, and writes their outputs into the files.

    pip install ".[demo]" nbclient ipykernel scanpy statsmodels
    python examples/execute_notebooks.py          # digits, cells and table: two minutes
    python examples/execute_notebooks.py digits

A file holds no time of a run, no path and no warning. A cell that raises ends the program, and its file stays as it
was. Edit the cells in Jupyter, and execute the notebook again before you commit it.
"""

import argparse
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).resolve().parent
NAMES = "digits", "cells", "table"


def executed(name):
    """The notebook of this name with the outputs of a run. nbclient.exceptions.CellExecutionError if a cell raises."""
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    settings = {"kernel_name": "python3", "record_timing": False, "coalesce_streams": True, "timeout": 600}
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": HERE}}, **settings).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a warning on stderr is of this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of this Python
    return notebook


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="name", help=f"of {', '.join(NAMES)}; or all")
    for name in parser.parse_args().names:
        notebook = executed(name)
        nbformat.write(notebook, HERE / f"{name}.ipynb")
        print(f"{name}.ipynb")


if __name__ == "__main__":
    main()
