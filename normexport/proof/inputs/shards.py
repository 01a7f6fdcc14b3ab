"""Tar shards as WebDataset lays them out: the files of a sample stand together, and share a name up to its first dot.

    0000.jpg 0000.cls  0001.jpg 0001.cls  ...

One of them is the sample, an image or an .npy; `.cls` is its class, a number in ASCII; others are passed over. Shards
are read in the order of their names. Layout: https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.images import SUFFIXES
from normexport.io.tar_archives import Member, Members, members_in
from normexport.text import printable

LABEL = ".cls"
_SAMPLES = (".npy", *SUFFIXES)
_CLASS = re.compile(rb"\s*(\d{1,9})\s*")
_LONGEST = 64  # bytes of a class


def shards(archives: Sequence[Path]) -> tuple[Members, tuple[int, ...]]:
    """The samples of archives, and the class of each; () where they have none.

    Raises:
        UsageError: see `members_in`; a sample of several files, a class that is no number, classes for some alone.
    """
    return _indexed(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in archives))


@lru_cache(maxsize=4)  # a conversion asks for labels, images and samples
def _indexed(stamped: tuple[tuple[Path, int, int], ...]) -> tuple[Members, tuple[int, ...]]:
    found: list[Member] = []
    labels: list[int] = []
    for archive, _, _ in stamped:
        for member, label in _samples_in(archive):
            if (label is None and labels) or (label is not None and len(labels) < len(found)):
                having, lacking = (member, found[-1]) if label is not None else (found[-1], member)
                cause = f"has a class, and {printable(lacking.name, 100)} has none"
                raise UsageError(str(having), cause, f"give each sample a {LABEL}, or none")
            found.append(member)
            labels += [] if label is None else [label]
    if not found:
        raise UsageError(str(stamped[0][0]), "holds no images and no .npy files", "give archives of samples")
    return Members([archive for archive, _, _ in stamped], found), tuple(labels)


def _samples_in(archive: Path) -> Iterator[tuple[Member, int | None]]:
    for _, group in groupby(members_in(archive), key=_key):
        members = list(group)
        samples = [each for each in members if each.suffix.lower() in _SAMPLES]
        classes = [each for each in members if each.name.lower().endswith(LABEL)]
        if len(samples) > 1 or len(classes) > 1:
            several = samples if len(samples) > 1 else classes
            cause = f"is of one sample with {printable(several[1].name, 100)}"
            raise UsageError(str(several[0]), cause, "give each sample one image or .npy, with a name of its own")
        if samples:
            yield samples[0], _class_of(classes[0]) if classes else None


def _key(member: Member) -> str:
    """The name up to the first dot of its last part."""
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _class_of(member: Member) -> int:
    found = _CLASS.fullmatch(member.content()) if member.size <= _LONGEST else None
    if found is None:
        raise UsageError(str(member), "is no number of a class", "write it in digits")
    return int(found[1])
