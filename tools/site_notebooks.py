"""A hook of mkdocs: a notebook is a page like any other, its cells blocks of code, with what they print below."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `name.md` for each `name.ipynb`, which stays beside it to be taken along."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = PurePosixPath(file.src_uri)
        text = page_of(nbformat.reads(file.content_string, as_version=4), path.name)
        files.append(File.generated(config, str(path.with_suffix(".md")), content=text))
    return files


def page_of(notebook: Any, name: str) -> str:
    """The Markdown of a notebook, which is called `name`; outputs are shown as text."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(_fenced("python", cell.source))
            printed = "".join(
                each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell.get("outputs", ())
            )
            if printed:
                parts.append(_fenced("text", printed.rstrip()))
    parts.insert(1, f"This page is a notebook: [{name}]({name}).")
    return "\n\n".join(parts) + "\n"


def _fenced(language: str, text: str) -> str:
    """In a fence longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
