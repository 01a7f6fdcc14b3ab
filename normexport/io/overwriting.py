"""No output takes the place of an input, nor of another output, by whatever name it goes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from normexport.errors import UsageError
from normexport.io.atomic import check_replaceable

#: Paths, and what lies or is to lie at each, in words: "the checkpoint", "the data of model.onnx".
Files: TypeAlias = Sequence[tuple[Path, str]]


def check_outputs(outputs: Files, inputs: Files) -> None:
    """Refuse, before work is done for them, outputs that can't be replaced, that are inputs, or that are one another.

    Two paths are one where links, hard links or another case of letters lead to one file.

    An input may be a folder: then all files that lie in it are meant.

    Raises:
        UsageError: names both.
    """
    seen: dict[str, str] = {}
    for path, words in outputs:
        real = os.path.realpath(path)
        if real in seen:
            raise UsageError(str(path), f"would be both {seen[real]} and {words}", "name another file for one of them")
        seen[real] = words
        if not os.path.exists(path):  # so it is no input either
            continue
        check_replaceable(path)
        for given, known in (*_files(inputs), *_code(path)):
            if is_same_file(path, given):
                by_name = "" if str(given) == str(path) else f", {given}"
                raise UsageError(str(path), f"would become {words}, and is {known}{by_name}", "name another output")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths name one file that is there."""
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _code(output: Path) -> Iterator[tuple[Path, str]]:
    """The code that is loaded in this process, a model's factory among it, for an output that is called as code is."""
    if output.suffix in (".py", ".so"):
        files = ((getattr(module, "__file__", None), name) for name, module in list(sys.modules.items()))
        yield from ((Path(file), f"the code of {name}") for file, name in files if file is not None)


def _files(inputs: Files) -> Iterator[tuple[Path, str]]:
    for path, words in inputs:
        yield path, words
        if path.is_dir():
            for inner in path.iterdir():
                yield inner, f"in {words}"
