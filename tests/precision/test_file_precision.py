"""Which precision a file is judged by: that of what its outputs follow from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from normexport import parity
from normexport.precision.file_precision import precision_of
from normexport.verdicts import Verdict

WEIGHT = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
BFLOAT16 = ("h = Cast <to = 16> (x)",)
FLOAT16 = ("h = Cast <to = 10> (x)",)
INT8 = (
    "s = Constant <value = float {0.1}> ()",
    "o = Constant <value = int8 {0}> ()",
    "h = QuantizeLinear(x, s, o)",
    "k = DequantizeLinear(h, s, o)",
)


def model(*nodes: str, weight: np.ndarray = WEIGHT, **stored: np.ndarray) -> onnx.ModelProto:
    made = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 19]> g (float[N,8] x) => (float[N,8] y) {'
        f" {' '.join(nodes)} y = MatMul(x, w) }}"
    )
    for name, array in {"w": weight, **stored}.items():
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


@pytest.mark.parametrize("beside", [BFLOAT16, FLOAT16, INT8], ids=["bfloat16", "float16", "int8"])
def test_what_no_output_follows_from_does_not_loosen_the_verdict(beside: tuple[str, ...]) -> None:
    off = WEIGHT.copy()
    off[:, 3] *= 1.003
    assert precision_of(ir.from_proto(model(*beside))) == "float32"
    assert parity(model(), model(*beside, weight=off)).judgement.verdict is Verdict.FAILED
    assert parity(model(), model(*beside)).judgement.verdict is Verdict.PASSED


def test_a_weight_in_half_that_nothing_reads_does_not_either() -> None:
    assert precision_of(ir.from_proto(model(unread=np.zeros(9, np.float16)))) == "float32"


@pytest.mark.parametrize(
    ("read", "precision"),
    [
        (("b = Cast <to = 16> (x)", "f = Cast <to = 1> (b)", "z = Add(f, x)"), "bfloat16"),
        (("b = Cast <to = 10> (x)", "f = Cast <to = 1> (b)", "z = Add(f, x)"), "float16"),
        ((*INT8, "z = Add(k, x)"), "int8"),
    ],
)
def test_what_an_output_follows_from_counts(read: tuple[str, ...], precision: str) -> None:
    text = " ".join(read)
    made = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 19]> g (float[N,8] x) => (float[N,8] z) {{ {text} }}'
    )
    assert precision_of(ir.from_proto(made)) == precision
