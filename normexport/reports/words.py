"""Text that is safe and short: names out of untrusted files, counts, operators, sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from normexport.text import one_line, shortened

#: Titles of what a file can hold, by `Checkpoint.source`.
SOURCES = {
    "program": "exported program",
    "module": "pickled module",
    "state_dict": "state_dict",
    "onnx": "ONNX model",
}


def count(number: int, noun: str) -> str:
    """ "1 norm", "53 norms", "3 boundaries"."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


def case_name(number: int) -> str:
    """A case of `bench` as tables and figures call it: a letter, and from the 27th on a number."""
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def broken(path: str, width: int) -> str:
    """`path` in lines of at most `width` characters, cut behind dots and slashes where it can be.

    Nothing is left out: the end of a module path is as telling as its start.
    """
    lines = [""]
    for piece in re.findall(r"[^./]*[./]?", path):
        if len(lines[-1]) + len(piece) <= width:
            lines[-1] += piece
            continue
        while len(piece) > width:
            lines, piece = [*lines, piece[:width]], piece[width:]
        lines.append(piece)
    return "\n".join(line for line in lines if line)


def changed_operators(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """ "RunningNorm 53 → 0, Add 16 → 17": only what changed, what went away first, at most six."""
    names = [name for name in {**before, **after} if before.get(name, 0) != after.get(name, 0)]
    names.sort(key=lambda name: after.get(name, 0) - before.get(name, 0))
    return shortened([f"{one_line(name)} {before.get(name, 0)} → {after.get(name, 0)}" for name in names], most=6)


def size(path: Path) -> str:
    """ "1.2 MB"; "" where the file is not there (any more)."""
    try:
        return size_words(path.stat().st_size)
    except OSError:
        return ""


def size_words(number: float) -> str:
    """ "1.2 MB" of a number of bytes."""
    if number < 1000:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000 or unit == "GB":
            break
    return f"{number:.3g} {unit}"


def tally(names: Iterable[str]) -> str:
    """ "49 l1, 4 batchnorm", most frequent first; the bare name where there is only one."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    if len(counts) == 1:
        return next(iter(counts))
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{number} {name}" for name, number in ordered)
