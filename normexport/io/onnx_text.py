"""Whether all text in an ONNX file is text."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

from normexport.errors import FoldError
from normexport.io.external_data import quote
from normexport.io.onnx_tensors import AGAIN

Message = Any  # protobuf's own types


def check_text(model: onnx.ModelProto, place: str) -> None:
    """Look at every string of every message: protobuf hands out those that are no UTF-8 as bytes, without a word.

    Raises:
        FoldError: one is no UTF-8.
    """
    pending: list[Message] = [model]
    while pending:
        message = pending.pop()
        texts, lists, parts, groups = _fields(message.DESCRIPTOR)
        found = [getattr(message, name) for name in texts]
        found += [text for name in lists for text in getattr(message, name)]
        for text in found:
            if isinstance(text, bytes):
                raise FoldError(place, f"holds text that is no UTF-8, {quote(repr(text), 60)}", AGAIN)
        pending += [getattr(message, name) for name in parts if message.HasField(name)]
        for name in groups:
            pending += getattr(message, name)


@cache
def _fields(descriptor: Message) -> tuple[list[str], list[str], list[str], list[str]]:
    """Names of the fields that hold a string, several strings, a message, several messages."""
    found: tuple[list[str], list[str], list[str], list[str]] = ([], [], [], [])
    for field in descriptor.fields:
        if field.type == field.TYPE_STRING:
            found[field.is_repeated].append(field.name)
        elif field.message_type is not None:
            found[2 + field.is_repeated].append(field.name)
    return found
