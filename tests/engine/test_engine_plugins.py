"""Engines with live norms: which nodes become plugins, in which types, what is embedded, and what is left to bodies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import normexport
from examples import index
from normexport import norms
from normexport.engine import EngineConfig, build_engine
from normexport.engine.prepare import prepare
from normexport.errors import EngineError
from normexport.io.onnx_model import open_onnx, save_onnx
from tests.engine import networks, plugin_build
from tests.plugins.cuda_emulated import emulation_build

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(plugin_build.missing() is not None, reason=str(plugin_build.missing())),
]

TARGETS = ("sm80", "sm89", "sm120")
OPS = tuple(op for op in norms.live_ops() if "Group" not in op)
QUANTIZED = tuple(f"Q{op}" for op in OPS)


def config(**changes: Any) -> EngineConfig:
    return EngineConfig(targets=TARGETS, **{"plugin_library": plugin_build.library(), **changes})


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return tmp_path / "model.plan"


def test_the_live_norms_are_five_kinds_over_a_batch_and_over_a_sample() -> None:
    assert set(OPS) == {
        f"{kind}{over}Norm" for kind in ("L1", "L2", "Linf", "TopK", "Range") for over in ("Batch", "Instance")
    }


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_every_live_norm_becomes_a_plugin_in_the_type_of_its_data(tmp_path: Path, plan: Path, kind: str) -> None:
    manifest = build_engine(networks.all_norms(tmp_path / "m.onnx", OPS, kind), plan, config(precision=kind))
    assert manifest.plugins == tuple((f"block{i}/norm", op, "") for i, op in enumerate(OPS))
    built = [layer for layer in manifest.layers if layer.type == "PLUGIN_V3"]
    assert [(layer.name, layer.dtype) for layer in built] == [(f"block{i}/norm", kind) for i in range(len(OPS))]
    assert manifest.precision == {kind: 2 * len(OPS)}
    assert (manifest.bodies, manifest.embedded, manifest.targets) == ((), True, TARGETS)


def test_every_integer_norm_becomes_a_plugin_that_reads_and_writes_int8(tmp_path: Path, plan: Path) -> None:
    manifest = build_engine(networks.all_norms(tmp_path / "m.onnx", QUANTIZED), plan, config(precision="int8"))
    assert [op for _, op, _ in manifest.plugins] == list(QUANTIZED)
    built = [layer for layer in manifest.layers if layer.type == "PLUGIN_V3"]
    assert {layer.dtype for layer in built} == {"int8"}
    assert manifest.precision == {"float32": len(OPS), "int8": len(OPS)}, "the convolutions' weights are float32"
    assert (manifest.bodies, manifest.embedded, manifest.targets) == ((), True, TARGETS)


def test_norms_between_q_and_dq_are_absorbed_into_integer_plugins(tmp_path: Path, plan: Path) -> None:
    manifest = build_engine(networks.between_pairs(tmp_path / "m.onnx", OPS), plan, config(precision="int8"))
    assert [op for _, op, _ in manifest.plugins] == list(QUANTIZED)


@pytest.mark.parametrize(("ops", "kind"), [(OPS, "float32"), (OPS, "float16"), (QUANTIZED, "float32")])
def test_without_plugins_every_norm_is_built_from_its_body(
    tmp_path: Path, plan: Path, ops: tuple[str, ...], kind: str
) -> None:
    model = networks.all_norms(tmp_path / "m.onnx", ops, kind)
    manifest = build_engine(model, plan, config(plugins=False, plugin_library=None))
    assert (manifest.plugins, manifest.plugin, manifest.embedded) == ((), None, False)
    assert (set(manifest.bodies), manifest.targets) == (set(OPS), TARGETS)
    assert not [layer for layer in manifest.layers if layer.type == "PLUGIN_V3"]


def test_the_plugin_library_is_in_the_plan_unless_it_is_shipped_beside(tmp_path: Path, plan: Path) -> None:
    model = networks.all_norms(tmp_path / "m.onnx", OPS[:1])
    held = build_engine(model, plan, config())
    assert (held.embedded, held.host_code) == (True, True)
    library = plugin_build.library().read_bytes()
    code = library[0x2000:0x2400]  # a stretch of machine code, as a witness
    assert code in plan.read_bytes()
    beside = build_engine(model, plan, config(embed_plugins=False))
    assert (beside.embedded, beside.host_code) == (False, False)
    assert code not in plan.read_bytes()
    assert beside.plugin == held.plugin
    assert beside.plugin.file == "libnormexport_tensorrt.so"


def test_a_plan_that_holds_its_plugins_is_not_wrapped_for_onnx_runtime(tmp_path: Path, plan: Path) -> None:
    model, context = networks.all_norms(tmp_path / "m.onnx", OPS[:1]), tmp_path / "ctx.onnx"
    with pytest.raises(EngineError, match=r"holds code for the host.*build it with --no-plugins, or with --no-embed"):
        build_engine(model, plan, config(ep_context=context))
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]
    assert build_engine(model, plan, config(ep_context=context, embed_plugins=False)).plugins
    assert onnx.load(context).graph.node[0].op_type == "EPContext"


def test_a_network_without_live_norms_carries_no_plugin(tmp_path: Path, plan: Path) -> None:
    manifest = build_engine(networks.convolutions(tmp_path / "m.onnx"), plan, config())
    assert (manifest.plugin, manifest.embedded, manifest.host_code) == (None, False, False)


def test_a_trained_network_keeps_its_module_names(tmp_path: Path, plan: Path) -> None:
    file = index.CHECKPOINTS / "plain_l1_instance.pt2"
    exported = normexport.export(normexport.load(file))
    normexport.fold(exported.model, tmp_path / "m.onnx")
    live = [node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.domain == "normexport"]
    manifest = build_engine(tmp_path / "m.onnx", plan, config())
    assert [(node, op) for node, op, _ in manifest.plugins] == [(node.name, node.op_type) for node in live]
    modules = {norm.path for norm in normexport.load(file).norms}
    assert {module for *_, module in manifest.plugins} <= modules
    assert json.loads((tmp_path / "model.plan.json").read_text())["plugin"]["file"] == "libnormexport_tensorrt.so"


def test_the_portable_file_and_its_bodies_are_left_alone(tmp_path: Path, plan: Path) -> None:
    model = networks.all_norms(tmp_path / "m.onnx", OPS[:2])
    before = model.read_bytes()
    build_engine(model, plan, config())
    assert model.read_bytes() == before


def test_twin_names_and_no_names_are_told_apart(tmp_path: Path, plan: Path) -> None:
    proto = onnx.load(networks.all_norms(tmp_path / "m.onnx", OPS[:4]))
    for node, name in zip([n for n in proto.graph.node if n.domain], ["same", "same", "", ""], strict=True):
        node.name = name
    onnx.save(proto, tmp_path / "m.onnx")
    names = [node for node, *_ in build_engine(tmp_path / "m.onnx", plan, config()).plugins]
    assert len(set(names)) == 4
    assert names[:2] == ["same", "same#2"]


@pytest.mark.parametrize("ops", [QUANTIZED[:1], ()])
def test_a_zero_point_is_refused_with_the_node(tmp_path: Path, plan: Path, ops: tuple[str, ...]) -> None:
    proto = onnx.load(networks.between_pairs(tmp_path / "m.onnx", ops))
    (zero,) = [each for each in proto.graph.initializer if each.name == "z"]
    zero.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), "z"))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(EngineError, match="quantize0: has a zero point that is not zero"):
        build_engine(tmp_path / "m.onnx", plan, config())


def test_a_library_that_lacks_an_operator_leaves_it_to_its_body(tmp_path: Path) -> None:
    model = open_onnx(networks.all_norms(tmp_path / "m.onnx", OPS[:2]))
    prepared = prepare(model, {OPS[0]})
    assert ([each.op for each in prepared.plugins], prepared.bodies) == ([OPS[0]], (OPS[1],))
    assert {name for _, name, _ in prepared.model.functions} == {OPS[1]}


@pytest.mark.parametrize("op", QUANTIZED)
def test_an_integer_norm_spelled_out_in_floats_computes_the_same(tmp_path: Path, op: str) -> None:
    """What --no-plugins builds, run by ONNX Runtime, against the integer reference."""
    model = open_onnx(networks.all_norms(tmp_path / "m.onnx", [op], channels=4))
    save_onnx(prepare(model, ()).model, tmp_path / "spelled.onnx")
    x = np.random.default_rng(1).normal(size=(3, 4, 8, 8)).astype(np.float32)
    options = onnxruntime.SessionOptions()  # optimised, Q and DQ of different scales are taken for a pair
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (got,) = onnxruntime.InferenceSession(tmp_path / "spelled.onnx", options).run(None, {"x": x})
    right = networks.all_norms_reference(tmp_path / "m.onnx", x)
    assert np.mean(got != right) < 0.01, "float32 and exact integers may round a tie apart, and nothing else"
    assert np.abs(got - right).max() <= 0.0625


def test_an_old_shell_of_the_library_is_loud(tmp_path: Path, plan: Path) -> None:
    """Creators of the right names that make nothing: the vendor's parser refuses, by node."""
    source, library = tmp_path / "broken.cpp", tmp_path / "broken.so"
    text = (plugin_build.SOURCE / "broken_library.cpp").read_text()
    source.write_text(text)
    include = [f"-isystem{plugin_build.headers()}", f"-isystem{emulation_build.cuda_include()}"]
    subprocess.run(["c++", "-std=c++17", "-shared", "-fPIC", *include, "-o", library, source], check=True)
    with pytest.raises(EngineError, match="block0/norm"):
        build_engine(networks.all_norms(tmp_path / "m.onnx", OPS[:1]), plan, config(plugin_library=library))
    assert not plan.exists()
