"""The notebook of the tutorials runs from top to bottom, and prints what it shows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.docs.figures import without_figures
from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow

NOTEBOOK = ROOT / "docs" / "tutorials" / "train-convert-prove.ipynb"


def run(notebook: Any, folder: Path) -> Any:
    """The notebook with what its cells print, run in a folder that has the examples."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient, of the extra docs")
    pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra docs")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def read() -> Any:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, of the extra docs")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def printed(cell: Any) -> str:
    """What a cell wrote and returned, as text."""
    parts = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell.get("outputs", ())]
    return "".join(parts)


def test_it_runs_from_top_to_bottom_and_prints_what_it_shows(tmp_path: Path) -> None:
    notebook = read()
    shown = [printed(cell) for cell in notebook.cells]
    ran = [printed(cell) for cell in run(notebook, tmp_path).cells]
    assert [without_figures(text) for text in ran] == [without_figures(text) for text in shown]
    assert sum(bool(text) for text in shown) >= 6
    assert (tmp_path / "notebook" / "int8" / "report.html").exists()


def test_a_cell_that_is_wrong_ends_it(tmp_path: Path) -> None:
    errors = pytest.importorskip("nbclient.exceptions", reason="needs nbclient, of the extra docs")
    notebook = read()
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"][:1]
    notebook.cells[0].source = "raise ValueError('wrong')"
    with pytest.raises(errors.CellExecutionError, match="wrong"):
        run(notebook, tmp_path)
