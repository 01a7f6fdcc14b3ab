"""JSON from an archive: bounded, no key twice, no numbers that JSON does not know."""

from __future__ import annotations

import json
from typing import Any

from normexport.checkpoint.pt2.refusal import Damaged


def parse_json_text(content: bytes | str, most: int, what: str) -> Any:
    """The value of a JSON text of at most `most` characters.

    Raises:
        Damaged: it is longer, no JSON, or can be read in more than one way.
    """
    if len(content) > most:
        raise Damaged(f"{what} is longer than {most >> 20} MiB")
    try:
        text = content if isinstance(content, str) else content.decode()
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is no plain JSON") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(name: str) -> None:
    raise ValueError(name)
