"""The file beside an ONNX file that holds its large weights: what a new one is called, and when an old one goes.

A new data file never takes the place of another file. So a model and its data change together, however a run ends: the
new data file is there first, under a name that nobody uses; then the model that names it is replaced, in one step; then
the data file that the replaced model was written with is removed, unless another model in the folder names it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normexport.errors import NormExportError
from normexport.io.onnx_wire import map_file

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

#: In the metadata of a model that was written here: the name of the data file that was written with it.
WRITTEN = "normexport.data"


def data_of_model(model: ir.Model) -> list[Path]:
    """The files that tensors of an opened model lie in."""
    import onnx_ir as ir

    graphs = list(model.graphs())
    nodes = [node for graph in graphs for node in graph]
    nodes += [node for function in model.functions.values() for node in function]
    tensors = [value.const_value for graph in graphs for value in graph.initializers.values()]
    for node in nodes:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                tensors.append(attribute.as_tensor())
    return sorted({Path(tensor.path) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)})


def data_of_proto(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The files that tensors of a model in `folder` lie in, wherever in it they are."""
    return sorted({folder / location for location in _locations(model)})


def _locations(message: Any) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.name == "external_data":
            yield from (entry.value for entry in value if entry.key == "location")
        elif field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _locations(inner)


def free_name(model: Path, *folders: Path) -> str:
    """model.onnx.data for model.onnx; where one of `folders` has such a file, model.onnx.1.data and so on."""
    names = itertools.chain((f"{model.name}.data",), (f"{model.name}.{number}.data" for number in itertools.count(1)))
    return next(name for name in names if not any((folder / name).exists() for folder in folders))


def written_with(model: Path) -> Path | None:
    """The data file that an ONNX file was written with, here and by this program; None if it has none."""
    own = re.compile(rf"{re.escape(model.name)}\.(\d+\.)?data")
    try:
        if not model.is_file() or not any(own.fullmatch(file.name) for file in model.parent.iterdir()):
            return None
        from normexport.io.onnx_read import read_onnx

        metadata = {entry.key: entry.value for entry in read_onnx(model, floats=False).metadata_props}
    except (OSError, NormExportError):  # it is no model any more, or not whole; what lies beside it stays
        return None
    name = metadata.get(WRITTEN, "")
    return model.parent / name if own.fullmatch(name) else None


def remove_unread(data: Path | None) -> None:
    """Remove the data file of a model that is gone, unless another model beside it names it too."""
    if data is None or data.is_symlink() or not data.is_file():
        return
    with contextlib.suppress(OSError):
        models = [file for file in data.parent.iterdir() if ".onnx" in file.name and file.suffix != ".data"]
        if not any(_names(file, data.name) for file in models if file.is_file()):
            data.unlink()


def _names(model: Path, name: str) -> bool:
    """Whether a file holds that name anywhere; an older copy of a model, model.onnx.bak, is one of its readers too."""
    try:
        with map_file(model) as content:
            return content.find(name.encode()) >= 0
    except ValueError:  # an empty file can't be mapped
        return False
