"""The interpreter against ONNX Runtime, for nodes of every opset that takes them."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np
import onnx
import onnx.checker
import pytest
from onnx import helper, numpy_helper

from tests.runtime.float64.agreement import by_onnx_runtime, interpreted, same
from tests.runtime.float64.node_case import Case
from tests.runtime.float64.version_cases import cases

pytestmark = pytest.mark.slow

NEWEST = 23  # the last opset that ONNX Runtime 1.32 vouches for
RTOL, ATOL = 2e-4, 2e-5  # of ONNX Runtime's float32


def model_of(case: Case, version: int) -> tuple[onnx.ModelProto, list[Any]] | None:
    """The node as a model of that opset and what it is fed, None where that opset does not have it so."""
    try:
        schema = onnx.defs.get_schema(case.operator, version, "")
    except onnx.defs.SchemaError:
        return None
    given = sum(value is not None for value in case.inputs)
    if schema.deprecated or not set(case.attributes) <= set(schema.attributes) or given < schema.min_input:
        return None
    if len(case.inputs) > schema.max_input or case.outputs > schema.max_output:
        return None
    names = ["" if value is None else f"x{i}" for i, value in enumerate(case.inputs)]
    arrays = {name: np.asarray(value) for name, value in zip(names, case.inputs, strict=True) if name}
    stored = [name for name, a in arrays.items() if not case.feeds_integers and (a.dtype.kind == "i" or a.size == 0)]
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in arrays.items()
        if name not in stored
    ]
    outputs = [f"y{i}" for i in range(case.outputs)]
    attributes = dict(case.attributes)
    if case.operator == "Cast" and version < 6:
        attributes["to"] = onnx.TensorProto.DataType.Name(attributes["to"])
    graph = helper.make_graph(
        [helper.make_node(case.operator, names, outputs, **attributes)],
        "case",
        infos,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(arrays[name], name) for name in stored],
    )
    ir_version = 3 if version < 9 else 8 if version < 19 else 10
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=ir_version)
    if ir_version == 3:  # it had no initializers that are not inputs
        for name in stored:
            info = helper.make_tensor_value_info(name, onnx.TensorProto.INT64, arrays[name].shape)
            model.graph.input.append(info)
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except Exception:  # the schema does not take these types or shapes
        return None
    return model, [arrays[info.name] for info in infos]


TABLE = sorted(cases(), key=lambda case: case.operator)
OPERATORS = [(name, list(group)) for name, group in groupby(TABLE, key=lambda case: case.operator)]


@pytest.mark.parametrize(("operator", "table"), OPERATORS, ids=[name for name, _ in OPERATORS])
def test_every_version_computes_what_onnx_runtime_computes(operator: str, table: list[Case]) -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for case in table:
        seen = set()
        for version in range(1, NEWEST + 1):
            made = model_of(case, version)
            schema = None if made is None else onnx.defs.get_schema(operator, version, "").since_version
            if made is None or schema in seen:
                continue
            expected = by_onnx_runtime(*made)
            counts["not run by ONNX Runtime"] += expected is None
            if expected is not None:
                seen.add(schema)
                results = interpreted(*made)
                right = all(same(g, e, RTOL, ATOL) for g, e in zip(results, expected, strict=True))
                counts["agree"] += right
                if not right:
                    wrong.append(f"opset {version}: {case}")
    print(operator, dict(counts))
    assert not wrong
    assert counts["agree"]
