"""A file that says it takes any size and doesn't: the sizes at which it runs are told."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx import parser

from normexport.errors import UsageError
from normexport.onnx_export.input_texts import parse_inputs
from normexport.proof import compare


def pooled(kernel: int, signature: str = "float[N,1,H,W] x) => (float[N,1,P,Q] y") -> ir.Model:
    shape = "[{0}]" if "W" not in signature else "[{0},{0}]"
    node = f"y = AveragePool <kernel_shape = {shape.format(kernel)}> (x)"
    return ir.from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g ({signature}) {{ {node} }}'))


@pytest.mark.parametrize("kernel", [3, 9, 64, 100])  # 64: the usual length; 100: beyond it
def test_the_least_that_runs_is_the_remedy(kernel: int) -> None:
    model = pooled(kernel)
    with pytest.raises(UsageError, match="the model: does not run at H 1, W 1") as told:
        compare(model, model, inputs=parse_inputs(["x=1xHxW"]))
    assert told.value.remedy == f"it runs with --input H={kernel}.. --input W={kernel}.."
    assert compare(model, model, inputs=parse_inputs(["x=1xHxW", f"H={kernel}..", f"W={kernel}.."])).passed


def test_one_that_runs_at_all_sizes_is_compared_at_all() -> None:
    model = pooled(1)
    assert compare(model, model, inputs=parse_inputs(["x=1xHxW"])).passed


def test_one_that_runs_at_none_says_why() -> None:
    """The channels are not those of the weights, whatever the length."""
    nodes = "w = Constant <value = float[1,2,1] {1.0, 2.0}> () y = Conv(x, w)"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[N,C,L] x) => (float[N,1,L] y) {{ {nodes} }}'
    model = ir.from_proto(parser.parse_model(text))
    with pytest.raises(UsageError, match="can't run on these inputs"):
        compare(model, model, inputs=parse_inputs(["x=3xL"]))
