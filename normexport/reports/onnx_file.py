"""What an ONNX file is, for people: what it reads and returns, operators, sizes, precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from normexport.reports.layout import show_title
from normexport.reports.words import size_words
from normexport.text import one_line, shortened

if TYPE_CHECKING:
    from normexport.reports.conversion import OnnxFile, Port

_MOST = 12  # operators that are named


def show_onnx_file(console: Console, file: OnnxFile) -> None:
    """A line for each thing that one asks of a file."""
    for title, ports in (("reads", file.inputs), ("returns", file.outputs)):
        for position, port in enumerate(ports):
            show_title(console, "" if position else title, _port_words(port))
    opsets = ", ".join(f"{one_line(domain) or 'ai.onnx'} {version}" for domain, version in file.opsets.items())
    maker = f"written by {one_line(file.producer)}" if file.producer else ""
    show_title(console, "opset", opsets, f"IR version {file.ir_version}", maker)
    number = sum(file.operators.values())
    show_title(console, "operators", f"{number}", _counts(file.operators))
    show_title(console, "precision", file.precision)
    numbers = sum(file.weights.values())
    show_title(console, "weights", f"{numbers:,}".replace(",", " "), _by_type(file.weights))
    beside = f"and {size_words(file.data_bytes)} of data beside it" if file.data_bytes else ""
    if file.bytes:
        show_title(console, "size", f"{size_words(file.bytes)} {beside}".rstrip())


def _port_words(port: Port) -> str:
    if port.shape is None:
        sizes = "of any shape"
    else:
        sizes = "x".join("?" if size is None else one_line(str(size)) for size in port.shape) or "scalar"
    return f"{one_line(port.name)} {sizes} {port.dtype}"


def _counts(operators: Mapping[str, int]) -> str:
    return shortened([f"{one_line(name)} {number}" for name, number in operators.items()], most=_MOST)


def _by_type(weights: Mapping[str, int]) -> str:
    """ "float32", or of several types "int8 91 %, float32 9 %"."""
    total = sum(weights.values())
    if len(weights) < 2 or not total:
        return ", ".join(weights)
    return ", ".join(f"{name} {100 * number / total:.3g} %" for name, number in weights.items())
