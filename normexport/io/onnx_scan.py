"""Whether an ONNX file can be built as it is, told from its bytes. To look past the weights makes 30 ms into 2."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from normexport.io.onnx_wire import (
    BYTES,
    DOMAIN_OF_NODE,
    GRAPH_OF_MODEL,
    INITIALIZER_OF_GRAPH,
    RAW_DATA_OF_TENSOR,
    Field,
    fields,
    map_file,
)

#: Of our operators, and of their plugin creators.
NAMESPACE = "normexport"

#: What exporters write for a size that they have no name for; two of them are not one size.
NAMELESS_SIZES = frozenset({"?", "None", "-1", "*"})
#: Field 2 of a size, its name; field 2 of a node, the name of an output, is written alike.
_NAME_OF_SIZE = 2 << 3 | BYTES


def is_plain(path: Path) -> bool:
    """Whether the file can be built as it is: no node of our domain, no data in other files, no size called "?".

    Whoever builds it opens such files by himself, and follows whatever is there by then.
    """
    try:
        return not (has_nodes_of(NAMESPACE, path) or has_external_data(path) or has_nameless_sizes(path))
    except (OSError, ValueError):  # opening it says what is wrong
        return False


def has_nodes_of(domain: str, path: Path) -> bool:
    """Whether a node in any graph, subgraph or function of the file is of `domain`.

    Raises:
        OSError: the file can't be read.
        ValueError: it is empty or not an ONNX file.
    """
    words = bytes([DOMAIN_OF_NODE << 3 | BYTES, len(domain)]) + domain.encode()
    with map_file(path) as content:
        return any(content.find(words, start, end) >= 0 for start, end in _all_but_weights(content))


def has_external_data(path: Path) -> bool:
    """Whether a tensor of the file may lie in another one; a name that holds the word counts too.

    Raises:
        OSError: the file can't be read.
        ValueError: it is empty or not an ONNX file.
    """
    with map_file(path) as content:
        return any(content.find(b"location", start, end) >= 0 for start, end in _all_but_data(content))


def has_nameless_sizes(path: Path) -> bool:
    """Whether a size may have a name of `NAMELESS_SIZES`; an output of a node that is called so counts too.

    Raises:
        OSError: the file can't be read.
        ValueError: it is empty or not an ONNX file.
    """
    names = [bytes([_NAME_OF_SIZE, len(name)]) + name.encode() for name in NAMELESS_SIZES]
    with map_file(path) as content:
        parts = list(_all_but_weights(content))
        return any(content.find(name, start, end) >= 0 for name in names for start, end in parts)


def _all_but_weights(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where everything but the initializers of the main graph lies: first byte, byte behind the last."""
    for field, is_weight in _graph_fields(content):
        if not is_weight:
            yield field.start, field.end


def _all_but_data(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """The same, and of every initializer all but its raw numbers."""
    for field, is_weight in _graph_fields(content):
        if not is_weight:
            yield field.start, field.end
            continue
        for part in fields(content, field.start, field.end):
            if part.number != RAW_DATA_OF_TENSOR:
                yield part.start, part.end


def _graph_fields(content: mmap.mmap) -> Iterator[tuple[Field, bool]]:
    """Fields of the model, its graph's in place of the graph; and whether each is an initializer."""
    for field in fields(content, 0, len(content)):
        if field.number != GRAPH_OF_MODEL:
            yield field, False
            continue
        for inner in fields(content, field.start, field.end):
            yield inner, inner.number == INITIALIZER_OF_GRAPH
