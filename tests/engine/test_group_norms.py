"""Group and layer norms in engines: instance norms of groups compute the same, and the plugin has them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.dtypes import FLOATS
from normexport.engine.group_norms import spell_groups_as_instances
from normexport.engine.prepare import prepare
from normexport.norms.bodies import attach_bodies
from normexport.runtime import Float64Runtime

SERVED = [f"{kind}{scope}Norm" for kind in ("L1", "Linf", "TopK", "Range", "L2") for scope in ("Batch", "Instance")]
CHANNELS, GROUPS = 36, 3


def model(op: str, space: tuple[int, ...], dtype: str = "float32", attributes: str = "") -> ir.Model:
    """One norm of (N, 36, *space) with scale and bias, and its body."""
    dice = np.random.default_rng(0)
    elem = FLOATS[dtype].onnx_name.lower()
    dims = ",".join(["N", str(CHANNELS), *map(str, space)])
    text = (
        f'<ir_version: 10, opset_import: ["" : 20, "{norms.DOMAIN}" : 1]> g ({elem}[{dims}] x) => ({elem}[{dims}] y) '
        f"{{ y = {norms.DOMAIN}.{op} <num_groups: int = {GROUPS}{attributes}> (x, scale, bias) }}"
    )
    proto = onnx.parser.parse_model(text)
    for name in ("scale", "bias"):
        array = dice.uniform(-2, 2, CHANNELS).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    found = ir.from_proto(proto)
    attach_bodies(found)
    return found


@pytest.mark.parametrize("kind", norms.KINDS)
@pytest.mark.parametrize("space", [(), (1,), (7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("attributes", ["", ", epsilon: float = 0.25, correction: float = 1.5"])
def test_instances_of_groups_compute_what_the_group_norm_does(
    kind: str, space: tuple[int, ...], attributes: str
) -> None:
    original = model(norms.KINDS[kind].op(norms.Scope.GROUP), space, attributes=attributes)
    spelled = spell_groups_as_instances(original, SERVED)
    assert {node.op_type for node in original.graph} == {norms.KINDS[kind].op(norms.Scope.GROUP)}
    assert norms.KINDS[kind].op(norms.Scope.INSTANCE) in {node.op_type for node in spelled.graph}
    assert "GroupNorm" not in "".join(node.op_type for node in spelled.graph)
    attach_bodies(spelled)
    x = np.random.default_rng(1).normal(size=(3, CHANNELS, *space))
    want, have = (Float64Runtime(each).run({"x": x})["y"] for each in (original, spelled))
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_input_is_scaled_and_shifted_in_the_type_of_the_scale(dtype: str) -> None:
    spelled = spell_groups_as_instances(model("L1GroupNorm", (4, 5), dtype), SERVED)
    attach_bodies(spelled)
    onnx.checker.check_model(ir.to_proto(spelled), full_check=True)
    assert [node.op_type for node in spelled.graph].count("Cast") == 2


def test_the_builder_sees_a_plugin_and_no_group_norm() -> None:
    prepared = prepare(model("LinfGroupNorm", (4, 5)), SERVED)
    assert [plugin.op for plugin in prepared.plugins] == ["LinfInstanceNorm"]
    assert prepared.bodies == ()


@pytest.mark.parametrize("served", [[], ["LinfInstanceNorm"], ["L1GroupNorm", "L1InstanceNorm"]])
def test_it_stays_where_its_plugin_is_there_and_where_no_instance_norm_of_its_kind_is(served: list[str]) -> None:
    original = model("L1GroupNorm", (4, 5))
    assert spell_groups_as_instances(original, served) is original
