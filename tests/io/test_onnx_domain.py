"""A file that calls ONNX's own domain "ai.onnx" is treated as its twin that calls it ""."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.errors import FoldError
from normexport.folding import fold
from normexport.graphs.opsets import in_opset
from normexport.io.onnx_domain import import_opset, is_onnx_domain, opset_in, plain_domain
from normexport.io.onnx_model import open_onnx, save_onnx
from normexport.precision.half.graph import to_half
from normexport.precision.half.masks import Masks
from normexport.precision.half.types import HalfConfig
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from normexport.recognition import fold_recognised
from normexport.runtime import Float64Runtime, OnnxRuntime
from normexport.verbs.fold import FOLDING
from tests.folding.build import GraphBuilder

#: The operator set that files of before 2024 are of, and two beside the one that bodies are written in.
OPSETS = (17, 21, 22)


def twin(opset: int, domain: str) -> ir.Model:
    """Convolution, norm in ordinary operators, ReLU, and a softmax over channels, which is not the last axis."""
    dice, graph = np.random.default_rng(0), GraphBuilder(np.float32, opset)
    x = graph.node("Conv", [graph.input((2, 3, 6, 6)), graph.const(dice.normal(size=(4, 3, 3, 3)))])
    parameters = [graph.const(each) for each in (*dice.uniform(0.5, 2, (3, 4)), dice.uniform(0.5, 2, 4))]
    x = graph.node("Relu", [graph.node("BatchNormalization", [x, *parameters])])
    graph.output(graph.node("Softmax", [x], axis=1))
    model = graph.model()
    for each in (*model.opset_import, *model.graph.node):
        each.domain = domain
    return ir.from_proto(model)


FEEDS = {"x": np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)}


def quantized(model: ir.Model) -> ir.Model:
    return quantize(model, calibrate(model, [FEEDS], "minmax").ranges).model


CHANGES: dict[str, Callable[[ir.Model], ir.Model]] = {
    "fold": lambda model: fold(model).model,
    "fold with recognition": lambda model: fold_recognised(model, FOLDING, live_operators=True).model,
    "float16": lambda model: to_half(Masks(model).model, HalfConfig("float16")),
    "int8": quantized,
    "operator set 18": lambda model: in_opset(model, 18),
}


def spelled_alike(model: ir.Model) -> onnx.ModelProto:
    """The proto, with nodes of ONNX's own under its short name: theirs may keep the name that they came with."""
    proto = ir.to_proto(model)
    for node in proto.graph.node:
        if not plain_domain(node.domain):
            node.ClearField("domain")
    for imported in proto.opset_import:
        imported.domain = plain_domain(imported.domain)
    return proto


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("change", CHANGES)
def test_both_names_become_the_same_file_which_opens_and_computes_the_same(
    change: str, opset: int, tmp_path: Path
) -> None:
    short, long = (CHANGES[change](twin(opset, domain)) for domain in ("", "ai.onnx"))
    assert spelled_alike(long).SerializeToString(deterministic=True) == ir.to_proto(short).SerializeToString(
        deterministic=True
    )
    save_onnx(long, tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    (found,), (expected,) = (OnnxRuntime(each).run(FEEDS).values() for each in (open_onnx(tmp_path / "m.onnx"), short))
    np.testing.assert_array_equal(found, expected)
    (exact,) = Float64Runtime(twin(opset, "ai.onnx"), torch=False).run(FEEDS).values()
    assert np.abs(found - exact).max() < (0.1 if change == "int8" else 5e-3)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_bfloat16_is_refused_where_its_operator_set_is_not_there(domain: str) -> None:
    model = twin(17, domain)
    model.graph.opset_imports.clear()
    model.graph.opset_imports[domain] = 12
    with pytest.raises(FoldError, match="is of operator set 12, and bfloat16 came with 13"):
        to_half(model, HalfConfig("bfloat16"))


def test_one_version_is_imported_whatever_was_there() -> None:
    for before in ({}, {"": 17}, {"ai.onnx": 17}, {"ai.onnx": 17, "other": 1}):
        imports = dict(before)
        assert opset_in(imports, 5) == (17 if before else 5)
        import_opset(imports, 20)
        assert imports == {**{name: version for name, version in before.items() if name == "other"}, "": 20}
    assert [is_onnx_domain(each) for each in ("", "ai.onnx", "ai.onnx.ml", "normexport")] == [True, True, False, False]
    assert [plain_domain(each) for each in ("", "ai.onnx", "ai.onnx.ml")] == ["", "", "ai.onnx.ml"]
