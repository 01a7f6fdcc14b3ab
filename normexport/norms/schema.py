"""Schemas of the operators, for the ONNX checker and for exporters that look operators up by schema."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
from onnx.defs import OpSchema

from normexport.dtypes import FLOATS
from normexport.norms.function import DOMAIN, VERSION

_ACTIVATION = ("T", [f"tensor({each.onnx_name.lower()})" for each in FLOATS.values()], "X and Y")
_PARAMETER = ("U", ["tensor(float)", "tensor(double)"], "float32; float64 in references")
_QUANTIZED = [
    ("T", ["tensor(int8)"], "X and Y"),
    ("U", ["tensor(float)"], "in units of the quantised tensors: scale/s_y, bias/s_y + z_y"),
]


def register(functions: Iterable[onnx.FunctionProto], quantized: Collection[str] = ()) -> None:
    """Register a schema for each function's operator; a second call changes nothing.

    quantized: names of the operators from int8 to int8.
    """
    for function in functions:
        if not onnx.defs.has(function.name, max_inclusive_version=VERSION, domain=DOMAIN):
            onnx.defs.register_schema(_schema(function, function.name in quantized))


def _schema(function: onnx.FunctionProto, quantized: bool) -> OpSchema:
    # The first input and the output share T; BoundedWeightNorm's V, rho and W are all parameters.
    is_weight = function.input[0] == "V"
    types = ["U" if is_weight or i else "T" for i in range(len(function.input))]
    inputs = [OpSchema.FormalParameter(name, t) for name, t in zip(function.input, types, strict=True)]
    outputs = [OpSchema.FormalParameter(name, types[0]) for name in function.output]
    schema = OpSchema(
        function.name,
        DOMAIN,
        VERSION,
        inputs=inputs,
        outputs=outputs,
        type_constraints=_QUANTIZED if quantized else [_PARAMETER] if is_weight else [_ACTIVATION, _PARAMETER],
        attributes=[OpSchema.Attribute(a.name, a) for a in function.attribute_proto],
    )
    schema.set_type_and_shape_inference_function(_like_first_input)
    return schema


def _like_first_input(context: onnx.shape_inference.InferenceContext) -> None:
    given = context.get_input_type(0)
    if given is not None:
        context.set_output_type(0, given)
