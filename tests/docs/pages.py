"""The pages whose blocks are run, and running one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.docs.blocks import Block, read_blocks

ROOT = Path(__file__).parents[2]
#: Every page for readers; ARCHITECTURE, CONTRIBUTING and CHANGELOG are about the repository itself.
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@dataclass(frozen=True)
class Ran:
    """A block, what it printed, and what was wrong with it; None: nothing."""

    block: Block
    printed: str
    problem: str | None


def lay_out(page: str, materials: Path, folder: Path) -> None:
    """Copy what the page names into an empty folder: files that stand for a reader's own, and the examples."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__", "results"))
    for path in materials.iterdir():
        name = path.stem if path.suffix == ".py" else path.name  # `--model` names a module
        if re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w-])", page):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)


def run_page(page: str, folder: Path) -> list[Ran]:
    """Run the blocks of a page in a folder, in a process of its own, up to the first that fails."""
    (folder / ".page").mkdir()
    source, results = folder / ".page" / "page.md", folder / ".page" / "results.json"
    source.write_text(page)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools")]),
        "PATH": path,
        "COLUMNS": "100",
        "NORMEXPORT_QUIET": "1",
    }
    command = [sys.executable, "-W", "ignore", "-m", "tests.docs.run_page", str(source), str(results)]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True)
    blocks = {block.line: block for block in read_blocks(page)}
    if not results.exists():
        block = next(iter(blocks.values()))
        return [Ran(block, done.stdout, f"the page's process ended with {done.returncode}\n{done.stderr}")]
    told = json.loads(results.read_text())
    return [Ran(blocks[each["line"]], each["printed"], each["problem"]) for each in told]
