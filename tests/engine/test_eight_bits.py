"""Plans of int8 with a half remainder and of fp8: what the manifest holds, and which GPUs are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import normexport
from examples import index
from normexport.engine import EngineConfig, build_engine, check_engine
from normexport.engine.manifest import Manifest
from normexport.engine.verify import check_precision, precisions
from normexport.errors import EngineError
from normexport.io.onnx_model import save_onnx
from normexport.io.onnx_read import read_onnx
from normexport.precision import EightBit, Fp8, Int8, Judged, reduce_precision
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.remainder import Remainder
from normexport.precision.int8.storage import Storage
from tests.narrow import present

pytestmark = pytest.mark.slow

MULTIPLYING = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")


def reduced(name: str, config: type[EightBit], **how: Any) -> ir.Model:
    """An example network, calibrated and judged on its digits, as `convert --engine` makes it."""
    exported = normexport.export(index.CHECKPOINTS / name)
    model = normexport.fold(exported.model).model
    with np.load(index.CHECKPOINTS.parent / "digits.npz") as digits:
        images = digits["input"].reshape(-1, *exported.inputs[0].shape).astype(np.float32)
    judged = Judged({present(model.graph.inputs[0].name): images})
    asked = config(symmetric=True, min_snr=18, effort="none", **how)
    done = reduce_precision(model, asked, exported.inputs, judged=judged, for_engine=True)
    assert done.precision.passed, done.precision.judgement
    return done.model


def built(model: ir.Model, folder: Path, **config: Any) -> Manifest:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    save_onnx(model, folder / "m.onnx")
    how: dict[str, Any] = {"targets": ("sm89", "sm120"), "plugins": False, **config}
    return build_engine(folder / "m.onnx", folder / "m.plan", EngineConfig(**how))


# A concat-free network of 1-d convolutions, additions, a grouped transposed convolution; benchmarks/precision_plans.py
# builds all 21.
@pytest.mark.parametrize("config", [Int8, Fp8])
@pytest.mark.parametrize(
    ("name", "eight", "half"), [("rows_l1.pt2", 4, 0), ("residual_linf.pt2", 7, 0), ("mixed_range.pt2", 7, 1)]
)
def test_layers_are_in_eight_bits_and_all_else_is_float16(
    config: type[EightBit], name: str, eight: int, half: int, tmp_path: Path
) -> None:
    dtype = "int8" if config is Int8 else "float8_e4m3fn"
    manifest = built(reduced(name, config), tmp_path, precision=dtype)
    assert manifest.precision == {dtype: eight, **({"float16": half} if half else {})}
    assert manifest.targets == ("sm89", "sm120")
    wide = [layer for layer in manifest.layers if layer.dtype == "float32" and layer.type not in ("CONSTANT", "CAST")]
    # means, and what they read and give, are float32
    assert all("mean" in layer.name.lower() or layer.type in ("REDUCE", "DEQUANTIZE", "SHUFFLE") for layer in wide), (
        wide
    )
    assert {tensor.dtype for tensor in (*manifest.inputs, *manifest.outputs)} == {"float32"}


def test_a_bfloat16_remainder_builds_too(tmp_path: Path) -> None:
    model = reduced("rows_l1.pt2", Int8, remainder="bfloat16")
    manifest = built(model, tmp_path, precision="int8")
    assert manifest.precision == {"int8": 4}
    assert "bfloat16" in {layer.dtype for layer in manifest.layers}


def quantized(folder: Path) -> Path:
    """A file of one product in fp8."""
    text = """<ir_version: 10, opset_import: ["" : 20]> agraph (float[N, 2] x) => (float[N, 2] y)
    <float[2, 2] w = {1.0, 2.0, 3.0, 4.0}> { y = MatMul(x, w) }"""
    model, storage = ir.from_onnx_text(text), Storage("float8_e4m3fn", "float16")
    ranges = calibrate(model, [{"x": np.eye(2, dtype=np.float32)}], "minmax", storage=storage).ranges
    save_onnx(Remainder("float16").store(quantize(model, ranges, storage=storage).model), folder / "q.onnx")
    return folder / "q.onnx"


@pytest.mark.parametrize("target", ["sm75", "sm80", "sm86"])
def test_older_gpus_are_refused_before_anything_is_built(target: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    path = quantized(tmp_path)
    config = EngineConfig(targets=(target, "sm89"))
    with pytest.raises(EngineError, match=f"target {target}: has no fp8, which came with sm89"):
        build_engine(path, tmp_path / "q.plan", config)
    assert not (tmp_path / "q.plan").exists()
    how = normexport.ConvertConfig(engine=config, precision=Fp8())
    with pytest.raises(EngineError, match=f"target {target}: has no fp8"):  # the checkpoint is not even looked for
        normexport.convert(tmp_path / "nothing.pt2", tmp_path / "out", (), how)
    assert not (tmp_path / "out").exists()


def test_the_default_targets_are_those_that_have_fp8(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    manifest = build_engine(quantized(tmp_path), tmp_path / "q.plan", EngineConfig(plugins=False))
    assert manifest.targets == ("sm89", "sm120", "sm121")
    assert manifest.precision == {"float8_e4m3fn": 1}
    assert check_engine(EngineConfig(precision="float8_e4m3fn"))[1] == manifest.targets
    assert "sm86" in check_engine(EngineConfig(precision="int8"))[1]


# The proof itself, on a description of a network that no builder would honestly give.


def described(dtype: str) -> list[dict[str, Any]]:
    def layer(name: str, kind: str, reads: list[str], read: str, gives: str) -> dict[str, Any]:
        inputs = [{"name": each, "dtype": read, "shape": [2]} for each in reads]
        outputs = [{"name": f"{name}_y", "dtype": gives, "shape": [2]}]
        return {"name": name, "type": kind, "origin": "", "inputs": inputs, "outputs": outputs}

    made = [layer("a", "DEQUANTIZE", ["x"], dtype, "half"), layer("b", "DEQUANTIZE", ["w"], dtype, "half")]
    return [*made, {**layer("m", "MATRIX_MULTIPLY", ["a_y", "b_y"], "half", "half"), "origin": "[ONNX Layer: MatMul]"}]


def test_a_product_counts_as_what_it_multiplies(tmp_path: Path) -> None:
    assert precisions(described("fp8")) == {"float8_e4m3fn": 1}
    assert precisions(described("int8")) == {"int8": 1}
    mixed = described("fp8")
    mixed[1]["inputs"][0]["dtype"] = "int8"
    assert precisions(mixed) == {"float16": 1}


def test_fp8_that_became_something_else_is_named(tmp_path: Path) -> None:
    graph = read_onnx(quantized(tmp_path)).graph
    (product,) = [node for node in graph.node if node.op_type == "MatMul"]
    product.name = "MatMul"
    check_precision(graph, described("fp8"), "float8_e4m3fn")
    with pytest.raises(EngineError, match="node MatMul: MatMul is float8_e4m3fn in the file and int8 in the engine"):
        check_precision(graph, described("int8"), None)
    with pytest.raises(EngineError, match="no computing layer is int8"):
        check_precision(graph, described("fp8"), "int8")
