"""ONNX's own operators, whose domain files call by two names, "" and "ai.onnx": which of their sets is imported."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

_LONG_NAME = "ai.onnx"


def plain_domain(domain: str) -> str:
    """A domain by one name: "" is ONNX's own."""
    return "" if domain == _LONG_NAME else domain


def is_onnx_domain(domain: str) -> bool:
    """Whether a domain is ONNX's own."""
    return domain in ("", _LONG_NAME)


def opset_in(imports: Mapping[str, int], default: int = 0) -> int:
    """The version of ONNX's own operators among the imports of a graph or a function."""
    return imports.get("", imports.get(_LONG_NAME, default))


def import_opset(imports: MutableMapping[str, int], version: int) -> None:
    """Import that version of ONNX's own operators and no other; in place."""
    imports.pop(_LONG_NAME, None)
    imports[""] = version
