"""Every example network as plans of int8 and fp8 with float16 around, for two generations of GPUs: each type as asked.

What a plan must hold is read here off the ONNX file that it was built from, node by node.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from examples import index
from normexport.checkpoint import load
from normexport.dtypes import FLOAT8, INT8
from normexport.engine import EngineConfig, build_engine
from normexport.engine.manifest import Manifest
from normexport.folding import fold
from normexport.io.onnx_model import save_onnx
from normexport.onnx_export import InputSpec, export, parse_inputs
from normexport.precision import EightBit, Fp8, Int8, Judged, reduce_precision
from tests.engine import plugin_build
from tests.narrow import present

pytestmark = pytest.mark.slow

TARGETS = ("sm89", "sm120")
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
COMPUTING = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "PLUGIN_V3")
EIGHT: dict[int, str] = {onnx.TensorProto.INT8: INT8, onnx.TensorProto.FLOAT8E4M3FN: FLOAT8.name}


def folded(name: str) -> tuple[ir.Model, tuple[InputSpec, ...]]:
    """An example network, and what it reads."""
    entry = index.read()[name]
    how = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
    given = parse_inputs([entry["input"]]) if entry["input"] else ()
    exported = export(load(index.CHECKPOINTS / name, **how), given)
    return fold(exported.model).model, exported.inputs


def reduced(model: ir.Model, inputs: tuple[InputSpec, ...], config: type[EightBit]) -> ir.Model:
    """As `convert --engine` makes it of 48 digits, judged on 16 others, at so low a limit that no module stays out."""
    with np.load(index.CHECKPOINTS.parent / "digits.npz") as digits:
        images = digits["input"].reshape(-1, *inputs[0].shape).astype(np.float32)
    judged = Judged({present(model.graph.inputs[0].name): images})
    asked = config(symmetric=True, min_snr=5, effort="none")
    done = reduce_precision(model, asked, inputs, judged=judged, for_engine=True)
    assert done.precision.passed, done.precision.judgement
    assert (done.precision.remainder, done.precision.kept) == ("float16", ())
    return done.model


def asked_for(path: Path) -> Counter[str]:
    """What each product of a file multiplies: eight bits where both factors come from them, else the weight's type."""
    graph = onnx.load(path).graph
    made = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        kinds = {eight_bits_behind(name, made, stored) for name in node.input[:2]}
        found[kinds.pop() if len(kinds) == 1 and "" not in kinds else "float16"] += 1
    return found


def eight_bits_behind(name: str, made: dict[str, onnx.NodeProto], stored: dict[str, int]) -> str:
    """The type that a DequantizeLinear makes a value of; "" of another value."""
    node = made.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return ""
    return EIGHT[stored[node.input[2]]]


def built(model: ir.Model, folder: Path, **how: Any) -> Manifest:
    save_onnx(model, folder / "m.onnx")
    return build_engine(folder / "m.onnx", folder / "m.plan", EngineConfig(targets=TARGETS, **how))


@pytest.mark.parametrize("name", index.read())
def test_plans_hold_the_types_asked_for(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    model, inputs = folded(name)
    for config, dtype in ((Int8, INT8), (Fp8, FLOAT8.name)):
        manifest = built(reduced(model, inputs, config), tmp_path, precision=dtype, plugins=False)
        assert manifest.targets == TARGETS
        wanted = asked_for(tmp_path / "m.onnx")
        assert wanted[dtype] >= 4
        assert manifest.precision == dict(wanted), dtype
        assert not [each for each in manifest.layers if each.type in COMPUTING and each.dtype == "float32"]
        assert {tensor.dtype for tensor in (*manifest.inputs, *manifest.outputs)} == {"float32"}


def test_live_norms_are_plugins_of_float16_in_fp8_and_of_int8_in_int8(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    if plugin_build.missing() is not None:
        pytest.skip(str(plugin_build.missing()))
    model, inputs = folded("plain_l1_instance.pt2")
    for config, dtype, words, rest in (
        (Int8, INT8, "QL1InstanceNorm", {}),
        (Fp8, FLOAT8.name, "L1InstanceNorm", {"float16": 3}),
    ):
        lowered = reduced(model, inputs, config)
        manifest = built(lowered, tmp_path, precision=dtype, plugin_library=plugin_build.library())
        assert [name for _, name, _ in manifest.plugins] == [words] * 3
        assert manifest.precision == {dtype: 4 + (0 if rest else 3), **rest}
