"""What a file came from: written into its metadata, and into the bill of materials beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from normexport.capsule.content import type_name
from normexport.engine.manifest import FileId
from normexport.graphs.port_names import read_inputs
from normexport.io.onnx_model import open_onnx
from normexport.provenance.bom import bom_text
from normexport.provenance.record import KEY, Provenance
from normexport.verdicts import Judgement


def with_origin(model: ir.Model, origin: Provenance) -> ir.Model:
    """The model with what it was made from in its metadata; a copy, since the model may be the caller's."""
    told = model.clone()
    told.metadata_props[KEY] = origin.metadata()
    return told


def files_written(folder: Path) -> list[str]:
    """File names, the model first."""
    return sorted((file.name for file in folder.iterdir()), key=lambda name: (name != "model.onnx", name))


def ids_of(folder: Path, beside: Sequence[Path] = ()) -> tuple[FileId, ...]:
    """Names, sizes and hashes of what was made: in the folder, and the files beside it."""
    return tuple(FileId.of(file) for file in (*(folder / name for name in files_written(folder)), *beside))


def bill_of_materials(name: str, origin: Provenance, folder: Path, verdicts: dict[str, Judgement]) -> str:
    """The bill of materials of what lies in the folder, as the text of a file.

    Args:
        name: of the network.
        verdicts: of what was judged, by the word for it.
    """
    known = replace(origin, outputs=ids_of(folder))
    model = folder / "model.onnx"
    opened = open_onnx(model)
    ports = read_inputs(opened), opened.graph.outputs
    inputs, outputs = ({str(each.name): _signature(each) for each in side} for side in ports)
    words = [(kind, judgement.verdict.word) for kind, judgement in verdicts.items()]
    return bom_text(name, known, FileId.of(model), inputs, outputs, words)


def _signature(value: ir.Value) -> str:
    """ "float32[batch,3,8,8]"."""
    sizes = "?" if value.shape is None else ",".join(map(str, value.shape.dims))
    return f"{type_name(value.dtype)}[{sizes}]"
