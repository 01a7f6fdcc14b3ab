"""Write into the notebook what its cells print: python -m tests.docs.write_notebook."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat

from tests.docs.test_notebook import NOTEBOOK, read, run


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = run(read(), Path(folder))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of the run
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    nbformat.write(notebook, NOTEBOOK)  # type: ignore[no-untyped-call]  # nbformat has no types


if __name__ == "__main__":
    main()
