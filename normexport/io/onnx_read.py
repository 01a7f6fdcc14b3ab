"""ONNX files as plain protobufs: read only when they are whole and stay in their folder.

Everything that a model from elsewhere could lie about is checked here, once: `normexport.io.onnx_graphs` says what. No
file outside the model's folder is opened on its word: it must not be able to pull /etc/passwd into its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError

from normexport.dtypes import FLOATS, onnx_numbers
from normexport.errors import FoldError, UsageError
from normexport.io.external_data import ExternalFiles
from normexport.io.held_file import HeldFile
from normexport.io.held_weights import Place, may_stay
from normexport.io.onnx_graphs import check_model
from normexport.io.onnx_tensors import AGAIN
from normexport.io.onnx_weight import check_weight
from normexport.io.onnx_wire import (
    BYTES,
    GRAPH_OF_MODEL,
    INITIALIZER_OF_GRAPH,
    LOCATION_OF_TENSOR,
    RAW_DATA_OF_TENSOR,
    TYPE_OF_TENSOR,
    VARINT,
    Content,
    Field,
    fields,
    map_file,
    varint,
)
from normexport.io.opening import open_regular

#: A model, and for each of its main initializers where the raw data stand that were left out; None where none were.
Parsed: TypeAlias = tuple[onnx.ModelProto, list[Place]]
#: Whether the raw data of a tensor are left out, by its type and their size.
Leaves: TypeAlias = Callable[[int, int], bool]

#: Types whose values nothing asks for that only looks at a model.
_FLOATS = onnx_numbers(FLOATS)


def read_onnx(path: str | Path, *, floats: bool = True, weights_under: Path | None = None) -> onnx.ModelProto:
    """The protobuf in an ONNX file; external data stays on disk.

    Args:
        floats: False leaves out the values of the floating-point initializers, and takes 3 ms where the whole of a
            ResNet-50 takes 100 and twice its size in memory.
        weights_under: a folder in which external data may lie too (`normexport.io.external_data`).

    Raises:
        UsageError: there is no such file, or it can't be read.
        FoldError: not ONNX, cut short, not well-formed, larger than it says, or its external data is missing, too
            short or outside the folder.
    """
    path = Path(path)
    proto, places = _parse(path, _whole if floats else _without_floats)
    _check(proto, places, path, weights_under)
    return proto


def read_holding(
    path: str | Path, *, weights_under: Path | None = None
) -> tuple[onnx.ModelProto, HeldFile, list[Place]]:
    """As `read_onnx`, but large raw data of initializers stay in the file: that, held open, and where they stand.

    Raises:
        UsageError, FoldError: see `read_onnx`.
    """
    path = Path(path)
    held: list[HeldFile] = []

    def parse(path: Path) -> Parsed:
        held.append(HeldFile.at(path))
        with map_file(path) as content:
            check_weight(content)
            return _put_together(content, may_stay)

    proto, places = _parse(path, parse)
    _check(proto, places, path, weights_under)
    return proto, held[-1], places


def _check(proto: onnx.ModelProto, places: list[Place], path: Path, weights_under: Path | None) -> None:
    sizes = [None if place is None else place[1] for place in places]
    check_model(proto, str(path), ExternalFiles(path.parent, weights_under), sizes)


def damaged_file_error(path: Path, cause: str) -> FoldError:
    """What a file that is not whole is refused with."""
    return FoldError(str(path), cause, AGAIN)


def _parse(path: Path, parser: Callable[[Path], Parsed]) -> Parsed:
    try:
        proto, left_out = parser(path)
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror or error})", "check the path") from error
    except OverflowError as error:
        raise FoldError(str(path), str(error), AGAIN) from error
    except (DecodeError, ValueError) as error:
        if path.suffix.lower() in (".pt", ".pth", ".pt2", ".ckpt"):
            raise FoldError(str(path), "not an ONNX file", "checkpoints go to normexport convert") from error
        raise damaged_file_error(path, "not an ONNX file, or cut short") from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise damaged_file_error(path, "not an ONNX file (it holds no graph)")
    if not proto.opset_import:  # serialised after the graph: a file cut exactly there still parses
        raise damaged_file_error(path, "cut short (it names no operator set)")
    return proto, left_out


def _whole(path: Path) -> Parsed:
    with open_regular(path) as file:
        content = file.read()
    check_weight(content)
    proto = onnx.ModelProto()
    proto.ParseFromString(content)
    return proto, []


def _without_floats(path: Path) -> Parsed:
    with map_file(path) as content:
        check_weight(content)
        return _put_together(content, lambda kind, size: kind in _FLOATS)


def _put_together(content: Content, leaves: Leaves) -> Parsed:
    """Field by field: that is how protobuf defines the meaning of a message."""
    proto = onnx.ModelProto()
    places: list[Place] = []
    for field in fields(content, 0, len(content)):
        if (field.number, field.kind) != (GRAPH_OF_MODEL, BYTES):
            proto.MergeFromString(content[field.begin : field.end])
            continue
        proto.graph.SetInParent()
        for inner in fields(content, field.start, field.end):
            if (inner.number, inner.kind) == (INITIALIZER_OF_GRAPH, BYTES):
                tensor, place = _tensor(content, inner, leaves)
                proto.graph.initializer.add().MergeFromString(tensor)
                places.append(place)
            else:
                proto.graph.MergeFromString(content[inner.begin : inner.end])
    return proto, places


def _tensor(content: Content, tensor: Field, leaves: Leaves) -> tuple[bytes, Place]:
    parts = list(fields(content, tensor.start, tensor.end))
    types = [varint(content, part) for part in parts if (part.number, part.kind) == (TYPE_OF_TENSOR, VARINT)]
    raw = [part for part in parts if (part.number, part.kind) == (RAW_DATA_OF_TENSOR, BYTES)]
    external = any(part.number == LOCATION_OF_TENSOR for part in parts)
    if not raw or not types or external or not leaves(types[-1], raw[-1].end - raw[-1].start):
        return content[tensor.start : tensor.end], None
    kept = b"".join(content[part.begin : part.end] for part in parts if part not in raw)
    return kept, (raw[-1].start, raw[-1].end - raw[-1].start)
