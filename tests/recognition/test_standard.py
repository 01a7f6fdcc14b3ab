"""Operators that normalise by themselves are told as live, with what they are; none is passed over."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.recognition import fold_recognised

FLOAT = TensorProto.FLOAT
INSIDE = "with its epsilon inside the root"
NO_MEAN = "and subtracts no mean"
OPERATORS: list[tuple[str, str, list[str], dict[str, Any], str]] = [
    ("RMSNormalization", "", ["c"], {}, NO_MEAN),
    ("LpNormalization", "", [], {"axis": -1}, NO_MEAN),
    ("MeanVarianceNormalization", "", [], {"axes": [0]}, "computes the statistics of its axes"),
    ("LayerNormalization", "", ["c"], {}, INSIDE),
    ("SimplifiedLayerNormalization", "", ["c"], {}, NO_MEAN),
    ("SkipLayerNormalization", "com.microsoft", ["x", "c"], {}, INSIDE),
    ("SkipSimplifiedLayerNormalization", "com.microsoft", ["x", "c"], {}, NO_MEAN),
    ("GroupNorm", "com.microsoft", ["c", "c"], {"groups": 2, "activation": 0}, INSIDE),
]


def model(op: str, domain: str, others: list[str], attributes: dict[str, Any], norm: bool) -> onnx.ModelProto:
    """The operator behind a linear layer, and a BatchNormalization behind it where asked for."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="linear"),
        helper.make_node(op, ["y", *others], ["z"], name="own", domain=domain, **attributes),
        helper.make_node("BatchNormalization", ["z", "c", "c", "c", "c"], ["o"], name="norm"),
    ]
    graph = helper.make_graph(
        nodes[: 3 if norm else 2],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [3, 4])],
        [helper.make_tensor_value_info("o" if norm else "z", FLOAT, [3, 4])],
        [
            numpy_helper.from_array(np.eye(4, dtype=np.float32) + 1, "w"),
            numpy_helper.from_array(np.arange(1, 5, dtype=np.float32), "c"),
        ],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


@pytest.mark.parametrize(("op", "domain", "others", "attributes", "says"), OPERATORS)
def test_an_operator_that_normalises_is_told_as_live(
    op: str, domain: str, others: list[str], attributes: dict[str, Any], says: str
) -> None:
    (told,) = fold_recognised(ir.from_proto(model(op, domain, others, attributes, False))).norms
    assert (told.node, told.fate) == ("own", "live")
    assert says in told.reason
    assert f"{op} 'own'" in told.reason


def test_one_that_normalises_a_constant_is_none_of_the_networks_norms() -> None:
    made = model("LpNormalization", "", [], {"axis": -1}, False)
    made.graph.node[1].input[0] = "w"
    assert fold_recognised(ir.from_proto(made)).norms == ()


@pytest.mark.parametrize(
    ("op", "others", "attributes"),
    [
        ("FusedConv", ["w"], {"activation": "Relu"}),
        ("FusedGemm", ["w"], {"activation": "Relu"}),
        ("FusedMatMul", ["w"], {}),
        ("BiasGelu", ["c"], {}),
        ("QuickGelu", [], {}),
    ],
)
def test_a_norm_behind_a_fused_operator_stays_and_names_it(
    op: str, others: list[str], attributes: dict[str, Any]
) -> None:
    (told,) = fold_recognised(ir.from_proto(model(op, "com.microsoft", others, attributes, True))).norms
    assert (told.node, told.fate) == ("norm", "lowered")
    assert f"{op} 'own' stands before the norm" in told.reason
