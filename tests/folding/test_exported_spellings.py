"""Norms as PyTorch's two exporters write them, batch fixed and open: each folds into its convolution."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="the exporters are PyTorch's")

from normexport.folding import fold
from normexport.runtime import Float64Runtime
from tests.folding.claims import operators
from tests.folding.spelled import modules

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXPORTERS = ("dynamo", "torchscript", "torchscript without its constant folding")
#: What an exporter has no translation for.
NO_EXPORT = {
    ("InstanceNorm", "torchscript", True),
    ("InstanceNorm", "torchscript without its constant folding", True),
    *(("Addcdiv", how, is_open) for how in EXPORTERS[1:] for is_open in (False, True)),
}


def exported(module: Any, x: Any, how: str, is_open: bool) -> onnx.ModelProto:
    if how == "dynamo":
        sizes = ({0: torch.export.Dim("batch")},) if is_open else None
        proto: onnx.ModelProto = torch.onnx.export(
            module, (x,), dynamo=True, verbose=False, dynamic_shapes=sizes, optimize=True
        ).model_proto
        return proto
    file = io.BytesIO()
    torch.onnx.export(
        module,
        (x,),
        file,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}} if is_open else None,
        do_constant_folding=how == "torchscript",
    )
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("is_open", [False, True], ids=["fixed_batch", "open_batch"])
@pytest.mark.parametrize("how", EXPORTERS)
@pytest.mark.parametrize("name", modules.NORMS)
def test_an_exported_norm_folds_into_its_convolution(name: str, how: str, is_open: bool) -> None:
    if (name, how, is_open) in NO_EXPORT:
        pytest.skip(f"{how} has no translation for {name}")
    torch.manual_seed(0)
    module = torch.nn.Sequential(modules.convolution(name), modules.NORMS[name](), torch.nn.ReLU()).eval()
    modules.fill(module)
    x = torch.randn(3, 2, 6, 5)
    model = exported(module, x, how, is_open)
    result = fold(ir.from_proto(model))
    after = ir.to_proto(result.model)
    left = operators(after)
    arithmetic = {"Add", "Sub", "Mul", "Div", "BatchNormalization", "Tile", "Expand", "ReduceMean", "Sqrt", "Pow"}
    assert not arithmetic & set(left), [(norm.fate, norm.reason) for norm in result.norms]
    assert Counter({"Conv": 1, "Relu": 1}) <= left
    assert all(norm.fate == "folded" for norm in result.norms)
    (out,) = Float64Runtime(after).run({model.graph.input[0].name: x.numpy()}).values()
    with torch.no_grad():
        expected = module.double()(x.double()).numpy()
    # Constants of float32, computed by the exporter or rounded once after the fold.
    assert np.abs(out - expected).max() <= 2e-6 * np.abs(expected).max()
