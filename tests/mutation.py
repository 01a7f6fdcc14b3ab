"""Breaking one rule of the library in a copy of it, and running claims against the copy: each break must be noticed."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.warm import ROOT, Done, Warm

SECONDS = 600  # of a busy machine: claims end by themselves after a minute of processor time


@dataclass(frozen=True)
class Mutation:
    """Replace `old` by `new` in normexport/`file`; `claim` is what then no longer holds.

    `old` must stand exactly once in the file, so that a rule that is rewritten takes its mutation along.
    """

    claim: str
    file: str
    old: str
    new: str


def original(mutation: Mutation) -> str:
    """The text of the file that a mutation breaks, in which what it replaces stands once."""
    text = (ROOT / "normexport" / mutation.file).read_text()
    assert text.count(mutation.old) == 1, f"{mutation.file} holds this {text.count(mutation.old)} times"
    return text


def copied(target: Path, file: str = "__init__.py") -> Path:
    """A package normexport in `target`: links to the library's files and folders, and `file` as one of its own.

    Bytecode is linked too. That file has a time of its own, by which Python sees that none is of it.
    """
    source, folder = ROOT / "normexport", target / "normexport"
    library = folder
    for part in Path(file).parts:
        folder.mkdir(parents=True)
        for path in source.iterdir():
            if path.name != part:
                (folder / path.name).symlink_to(path)
        source, folder = source / part, folder / part
    _write(folder, source.read_text(), source)
    return library


def broken(mutation: Mutation, target: Path) -> Path:
    """A copy of the library with one rule broken."""
    text = original(mutation).replace(mutation.old, mutation.new)
    library = copied(target, mutation.file)
    _write(library / mutation.file, text, ROOT / "normexport" / mutation.file)
    return library


def _write(path: Path, text: str, source: Path) -> None:
    """Write what stands in place of `source`, at another time."""
    assert not path.is_symlink()
    path.write_text(text)
    os.utime(path, (source.stat().st_mtime + 1,) * 2)


def check_noticed(mutation: Mutation, claims: str, target: Path) -> None:
    """The claims of this module do not hold of a copy of the library, in `target`, with one rule broken.

    They are held against the library as it is first: claims that fail anyway would notice whatever one breaks.
    """
    check_sound(claims)
    done = hold_against(broken(mutation, target), claims)
    # Exit code 1 and a named claim: a mutation that does not even import proves nothing.
    assert done.code == 1, f"not noticed: {mutation.claim} (exit code {done.code})\n{done.err}"
    assert "Error: " in done.out, done.err
    assert mutation.file in done.loaded, f"the claims do not import {mutation.file}: they failed by something else"


def check_sound(claims: str) -> None:
    """The claims hold of a copy of the library as it is, where and as they are held against broken ones."""
    done = _sound(claims)
    assert done.code == 0, f"{claims} does not hold of the library as it is:\n{done.out}{done.err}"


def hold_against(library: Path, claims: str, seconds: float = SECONDS) -> Done:
    """Hold the `CLAIMS` of a module, or a list that is named behind a colon, against a copy of the library."""
    return _warm().run("tests.claims:hold_module", library, claims, seconds)


@cache
def _warm() -> Warm:
    """The process that claims are held in copies of: one for all tests of this process."""
    warm = Warm()
    atexit.register(warm.close)
    return warm


@cache
def _sound(claims: str) -> Done:
    """How the claims end of the library as it is; what they import of others is there for those that come after."""
    with TemporaryDirectory() as folder:
        done = hold_against(copied(Path(folder)), claims)
    _warm().load(done.taken)
    return done
