"""A program that runs a page: python run_page.py PAGE RESULTS, in a folder that has what the page names.

Its blocks are run in their order in this one process and folder, as a reader would paste them into one interpreter and
one terminal. Command lines of normexport run in this process too, which spares loading PyTorch for each; all else goes
to bash. RESULTS becomes a list in JSON: of each block that was run its line, what it printed on either stream and what
was wrong (null: nothing), up to the first that was.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any

from normexport.errors import ExitCode
from tests.docs.blocks import Block, read_blocks, steps_of


def main(page: Path, results: Path) -> None:
    with tempfile.TemporaryFile() as output:
        for stream in (1, 2):  # of what is called from here as well
            os.dup2(output.fileno(), stream)
        told: list[dict[str, Any]] = []
        names, read = _main_module(), 0
        for block in read_blocks(page.read_text()):
            if block.is_left_alone:
                continue
            problem = _run(block, names)
            sys.stdout.flush()
            sys.stderr.flush()
            size = os.fstat(output.fileno()).st_size
            printed, read = os.pread(output.fileno(), size - read, read).decode(), size
            told.append({"line": block.line, "problem": problem, "printed": printed})
            if problem is not None:
                break
    results.write_text(json.dumps(told))


def _main_module() -> dict[str, Any]:
    """The names of the page's Python: an own `__main__`, so that a class of the page can be pickled."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.path.insert(0, "")  # as in an interpreter
    return vars(module)


def _run(block: Block, names: dict[str, Any]) -> str | None:
    """What was wrong with it."""
    try:
        if block.language == "yaml":
            yaml: Any = importlib.import_module("yaml")  # which mkdocs brings along
            list(yaml.safe_load_all(block.code))
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, "page", "exec"), names)
        else:
            steps = list(steps_of(block))
            for number, step in enumerate(steps, 1):
                wanted = block.ends if number == len(steps) else ExitCode.GOOD
                code = _call(step)
                if code != wanted:
                    return f"{step}\nended with {code} instead of {int(wanted)}"
    except Exception:  # a page may raise anything: that is told
        return traceback.format_exc()
    return None


def _call(step: str) -> int:
    """The exit code of a command line."""
    if not re.match(r"normexport [^|;&<>$*`]*(#.*)?$", step):
        return subprocess.run(["bash", "-euc", step]).returncode
    from normexport_cli.app import app

    try:
        app(shlex.split(step, comments=True)[1:], prog_name="normexport")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
