"""The members of a `.pt2` archive: exactly those that a plain program needs.

    NAME/models/model.json                              the program
    NAME/data/weights/model_weights_config.json         name -> file, type, shape and strides of each weight
    NAME/data/weights/weight_0 ...                      raw numbers
    NAME/data/constants/model_constants_config.json     the same of constants, and buffers that are not saved
    NAME/data/constants/tensor_0 ...
    NAME/data/sample_inputs/model.pt                    a pickle of what the model was exported with
    NAME/archive_format, archive_version, byteorder, .data/...

PyTorch's own reader looks for more: libraries to load (data/aotinductor), pickles of weights (NAME.pt), several models.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from normexport.checkpoint.pt2.json_text import parse_json_text
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun, quoted
from normexport.io.zip_archive import ZipArchive

PROGRAM = "models/model.json"
WEIGHTS, CONSTANTS = "data/weights/", "data/constants/"
SAMPLES = "data/sample_inputs/model.pt"
_TABLES = {WEIGHTS: f"{WEIGHTS}model_weights_config.json", CONSTANTS: f"{CONSTANTS}model_constants_config.json"}
_MARKS = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
_NEEDED = frozenset({PROGRAM, *_TABLES.values(), SAMPLES, *_MARKS})
_KNOWN = re.compile(
    r"\.data/(version|serialization_id)|\.format_version|\.storage_alignment|version"
    r"|data/weights/weight_\d{1,9}|data/constants/tensor_\d{1,9}"
    r"|extra/.*"  # texts that the author put beside the program; nothing reads them
)
_MOST_JSON = 64 << 20  # characters; the program of a ResNet-50 has 1.5 million


class ProgramArchive:
    """An open archive of one program.

    Raises:
        WouldRun: a member is of another kind.
        Damaged: a member is missing, or the archive is of another version.
        BadArchive: see `ZipArchive`.
    """

    def __init__(self, path: Path) -> None:
        self._zip = ZipArchive(path)
        try:
            self.size = self._zip.size
            self._root = _root(list(self._zip.members))
            self._require_members()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.__exit__()

    def program(self) -> Any:
        """The JSON of the program."""
        return parse_json_text(self.read(PROGRAM, _MOST_JSON), _MOST_JSON, "the program")

    def table(self, folder: str) -> Any:
        """The JSON of the table of WEIGHTS or CONSTANTS."""
        return parse_json_text(self.read(_TABLES[folder], _MOST_JSON), _MOST_JSON, "the table of weights")

    def read(self, name: str, most: int) -> bytes:
        """A member of at most `most` bytes."""
        return self._zip.read(self._root + name, most)

    def size_of(self, name: str) -> int | None:
        """Bytes of a member; None where there is none."""
        member = self._zip.members.get(self._root + name)
        return None if member is None else member.size

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill `buffer`, which has the member's size, with it."""
        self._zip.read_into(self._root + name, buffer)

    def _require_members(self) -> None:
        names = [name.removeprefix(self._root) for name in self._zip.members]
        for name in names:
            if name not in _NEEDED and not _KNOWN.fullmatch(name):
                raise WouldRun(f"the member {quoted(name)}")
        if missing := sorted(_NEEDED - set(names)):
            raise Damaged(f"it has no {missing[0]}")
        for name, content in _MARKS.items():
            found = self.read(name, 64).strip()
            if found != content:
                raise Damaged(f"its {name} is {quoted(found.decode(errors='replace'))}, not {content.decode()!r}")


def _root(names: list[str]) -> str:
    """The folder that all members lie in, with its slash."""
    root, slash, _ = names[0].partition("/") if names else ("", "", "")
    if not slash or not all(name.startswith(f"{root}/") for name in names):
        raise Damaged("its members do not lie in one folder")
    return f"{root}/"
