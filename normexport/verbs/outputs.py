"""Which files `export` and `convert` write and read, each in words, and the writing of a model with its layer map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from normexport import onnx_export
from normexport.engine import EngineConfig, manifest_path
from normexport.io.onnx_model import save_onnx
from normexport.precision import EightBit, Half

#: The bill of materials of a conversion.
BOM = "model.cdx.json"


def write_model(
    model: ir.Model, layers: Sequence[onnx_export.Layer], path: Path, home: Path | None = None
) -> tuple[Path, ...]:
    """Write the model, its data where that needs a file of its own, and its layer map; returns the files, model first.

    Args:
        home: the folder that they will lie in, where that is not `path`'s.
    """
    sidecar = onnx_export.sidecar_path(path)
    return save_onnx(model, path, home=home, texts={sidecar: onnx_export.sidecar_text(layers, model, path.name)})


def model_outputs(path: Path) -> list[tuple[Path, str]]:
    """What `write_model` may write to `path`."""
    data = path.with_name(path.name + ".data")
    return [(path, "the model"), (data, f"the data of {path.name}"), (onnx_export.sidecar_path(path), "the layer map")]


def conversion_outputs(
    folder: Path,
    engine: EngineConfig | None,
    precision: Half | EightBit | None,
    *capsule: Path,
    openvino: bool = False,
    bom: bool = False,
) -> list[tuple[Path, str]]:
    """What `convert` may write."""
    files = [
        *model_outputs(folder / "model.onnx"),
        (folder / "report.json", "the report"),
        (folder / "report.html", "its page"),
    ]
    if engine is not None:
        plan = folder / "model.plan"
        files += [(plan, "the plan"), (manifest_path(plan), "the plan's manifest"), *engine.side_files()]
    if openvino:
        files += [(folder / name, "OpenVINO's files") for name in ("model.xml", "model.bin")]
    if bom:
        files.append((folder / BOM, "the bill of materials"))
    files += [(path, "the capsule") for path in capsule]
    cache = _cache(precision)
    return files + ([(cache, "the calibration cache")] if cache is not None and not cache.exists() else [])


def conversion_inputs(
    source: Sequence[tuple[Path, str]],
    data: str | Path | None = None,
    engine: EngineConfig | None = None,
    precision: Half | EightBit | None = None,
) -> list[tuple[Path, str]]:
    """What `export` and `convert` read, as far as it lies in files; `source` is what is converted."""
    cache = _cache(precision)
    given = {
        "the data": data,
        "the calibration data": precision.calibration if isinstance(precision, EightBit) else None,
        "the plugin library": engine.plugin_library if engine is not None else None,
        "the calibration cache": cache if cache is not None and cache.exists() else None,
    }
    return [*source, *((Path(path), words) for words, path in given.items() if isinstance(path, (str, Path)))]


def _cache(precision: Half | EightBit | None) -> Path | None:
    """The calibration cache, which is read where it exists, else written."""
    given = precision.cache if isinstance(precision, EightBit) else None
    return None if given is None else Path(given)
