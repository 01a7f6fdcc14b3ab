"""An extension of griffe, which reads docstrings for the site: "a, b: text" is an entry for each of the names."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SEVERAL = re.compile(r"^    (\w+(?:, \w+)+):(.*(?:\n {8}.*)*)$", re.MULTILINE)


class OneEntryPerName(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _SEVERAL.sub(_each, obj.docstring.value)


def _each(entry: re.Match[str]) -> str:
    return "\n".join(f"    {name}:{entry[2]}" for name in entry[1].split(", "))
