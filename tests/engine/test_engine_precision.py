"""Proof of precision: half and int8 networks are built as they are in the file, and what is not is an error."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import normexport
from examples import index
from normexport.engine import EngineConfig, build_engine
from normexport.engine.manifest import Manifest
from normexport.engine.prepare import PluginNode
from normexport.engine.verify import check_plugins, check_precision, precisions
from normexport.errors import EngineError
from normexport.io.onnx_model import save_onnx
from normexport.precision import Half
from normexport.precision.half.search import halve
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from tests.engine import networks, plugin_build
from tests.narrow import present

pytestmark = pytest.mark.slow

MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@pytest.fixture(scope="module")
def trained() -> ir.Model:
    """A trained network with live norms, folded as far as it folds."""
    exported = normexport.export(index.CHECKPOINTS / "plain_l1_instance.pt2")
    return normexport.fold(exported.model).model


def built(model: ir.Model, folder: Path, **config: Any) -> Manifest:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    if plugin_build.missing() is not None:
        pytest.skip(str(plugin_build.missing()))
    save_onnx(model, folder / "m.onnx")
    how: dict[str, Any] = {"targets": ("sm89",), "plugin_library": plugin_build.library(), **config}
    return build_engine(folder / "m.onnx", folder / "m.plan", EngineConfig(**how))


def counted(folder: Path) -> tuple[int, int]:
    nodes = onnx.load(folder / "m.onnx").graph.node
    return sum(n.op_type in MULTIPLYING for n in nodes), sum(n.domain == "normexport" for n in nodes)


def test_a_half_precision_network_computes_in_half_precision_plugins_too(trained: ir.Model, tmp_path: Path) -> None:
    manifest = built(halve(trained, Half("float16")).model, tmp_path, precision="float16", targets=("sm75", "sm89"))
    products, live = counted(tmp_path)
    assert manifest.precision == {"float16": products + live}
    assert live == len(manifest.plugins) == 3
    assert {tensor.dtype for tensor in (*manifest.inputs, *manifest.outputs)} == {"float32"}


@pytest.mark.parametrize("plugins", [True, False])
def test_an_int8_network_computes_in_int8_plugins_too(trained: ir.Model, tmp_path: Path, plugins: bool) -> None:
    rng = np.random.default_rng(0)
    feeds = [{present(trained.graph.inputs[0].name): rng.normal(size=(8, 1, 28, 28)).astype(np.float32)}]
    ranges = calibrate(trained, feeds, "minmax", symmetric=True).ranges
    changes: dict[str, Any] = {} if plugins else {"plugins": False, "plugin_library": None}
    manifest = built(quantize(trained, ranges, symmetric=True).model, tmp_path, precision="int8", **changes)
    products, live = counted(tmp_path)
    assert manifest.precision == {"int8": products + (live if plugins else 0)}
    assert [op for _, op, _ in manifest.plugins] == ["QL1InstanceNorm"] * (live if plugins else 0)


def test_asking_for_int8_of_a_float_network_is_an_error(trained: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no computing layer is int8 \(there are: 7 float32\)"):
        built(trained, tmp_path, precision="int8")


# Additions, a transposed convolution of several groups; benchmarks/precision_plans.py builds all 21.
@pytest.mark.parametrize(
    ("name", "half", "int8"),
    [
        ("residual_linf.pt2", {"float16": 7}, {"int8": 7}),
        ("mixed_range.pt2", {"float16": 8}, {"int8": 7, "float32": 1}),
        ("rows_l1.pt2", {"float16": 4}, {"int8": 4}),  # 1-d convolutions, which the parser unsqueezes
    ],
)
def test_trained_networks_become_plans_of_the_precision_asked_for(
    name: str, half: dict[str, int], int8: dict[str, int], tmp_path: Path
) -> None:
    exported = normexport.export(index.CHECKPOINTS / name)
    model = normexport.fold(exported.model).model
    lowered = halve(model, Half("float16")).model
    assert built(lowered, tmp_path, plugins=False, plugin_library=None, precision="float16").precision == half
    with np.load(index.CHECKPOINTS.parent / "digits.npz") as digits:
        feeds = {present(model.graph.inputs[0].name): digits["input"].reshape(64, *exported.inputs[0].shape)}
    ranges = calibrate(model, [feeds], "mse", symmetric=True).ranges
    lowered = quantize(model, ranges, symmetric=True).model
    assert built(lowered, tmp_path, plugins=False, plugin_library=None, precision="int8").precision == int8


# The proof itself, on descriptions of networks that no builder would honestly give.


def layer(
    name: str, kind: str, gives: str, reads: Sequence[str] = ("float",), origin: str | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "origin": f"[ONNX Layer: {name}]" if origin is None else origin,
        "inputs": [{"name": f"{name}_{i}", "dtype": dtype, "shape": [1]} for i, dtype in enumerate(reads)],
        "outputs": [{"name": f"{name}_y", "dtype": gives, "shape": [1]}],
    }


def test_a_layer_wider_than_its_node_is_named(tmp_path: Path) -> None:
    graph = onnx.load(networks.convolutions(tmp_path / "m.onnx", kind="float16")).graph
    graph.value_info.append(networks.value("c0", [None] * 4, "float16"))
    graph.value_info.append(networks.value("c1", [None] * 4, "float16"))
    honest = [layer("conv0", "CONVOLUTION", "half"), layer("conv1", "CONVOLUTION", "half")]
    check_precision(graph, honest, "float16")
    silent = copy.deepcopy(honest)
    silent[1]["outputs"][0]["dtype"] = "float"
    with pytest.raises(EngineError, match="node conv1: Conv is float16 in the file and float32 in the engine"):
        check_precision(graph, silent, "float16")


def test_int8_is_counted_only_where_both_factors_are_dequantized() -> None:
    def network(weights: str) -> list[dict[str, list[dict[str, Any]] | str]]:
        data, product = (
            layer("dq", "DEQUANTIZE", "float", ["int8"]),
            layer("conv", "CONVOLUTION", "float", ["float"] * 2),
        )
        factor = layer("w", weights, "float", ["int8"])
        product["inputs"][0]["name"], product["inputs"][1]["name"] = "dq_y", "w_y"
        return [data, factor, product]

    assert precisions(network("DEQUANTIZE")) == {"int8": 1}
    assert precisions(network("CONSTANT")) == {"float32": 1}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "node norm: L1BatchNorm did not become a plugin layer"),
        ([layer("norm", "ELEMENTWISE", "float")], "did not become a plugin layer"),
        ([layer("norm", "PLUGIN_V3", "float", ["half"])], "reads float16 and writes float32"),
        ([layer("norm", "PLUGIN_V3", "int8", ["int8"])], "reads int8 and writes int8"),
    ],
)
def test_a_norm_that_is_not_the_plugin_it_should_be_is_named(
    tmp_path: Path, layers: list[dict[str, Any]], words: str
) -> None:
    graph = onnx.load(networks.convolutions(tmp_path / "m.onnx")).graph
    with pytest.raises(EngineError, match=words):
        check_plugins(graph, [PluginNode("norm", "L1BatchNorm", "")], layers)


def test_a_body_that_became_a_plugin_is_named(tmp_path: Path) -> None:
    graph = onnx.load(networks.all_norms(tmp_path / "m.onnx", ["L1BatchNorm"])).graph
    with pytest.raises(EngineError, match="node block0/norm: became a plugin layer and should not have"):
        check_plugins(graph, [], [layer("block0/norm", "PLUGIN_V3", "float")])
