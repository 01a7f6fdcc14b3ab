"""From a model to programs: nodes bound to functions, attributes to values, functions to where they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from normexport.errors import FoldError
from normexport.io.onnx_domain import plain_domain
from normexport.runtime.float64 import resolve
from normexport.runtime.float64.program import Program, Step
from normexport.runtime.float64.registry import Call, Kernel, Value
from normexport.runtime.float64.types import array_of

_DEEPEST = 100  # functions within functions; what is read from files nests less (normexport.io.onnx_graphs)


@dataclass(frozen=True)
class Scope:
    """What a graph is read with.

    Attributes:
        opsets: versions of the domains.
        functions: of the model.
        parameters: the attributes that the function around the graph was called with.
    """

    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str, str], ir.Function]
    parameters: Mapping[str, ir.Attr]
    with_torch: bool = True
    depth: int = 0

    def version(self, domain: str) -> int:
        """The version of a domain that the graph imports; 1 where it says none."""
        return self.opsets.get(plain_domain(domain), 1)


def program_of(model: ir.Model, *, with_torch: bool = True) -> Program:
    """The program of a model's main graph.

    Raises:
        FoldError: an operator is not known.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions.values()}
    return _graph_program(model.graph, Scope(_opsets(model.opset_imports), functions, {}, with_torch))


def _opsets(imports: Mapping[str, int]) -> dict[str, int]:
    return {plain_domain(domain): version for domain, version in imports.items()}


def _graph_program(graph: ir.Graph, scope: Scope) -> Program:
    constants = {value: value.const_value for value in graph.initializers.values() if value.const_value is not None}
    inputs = [value for value in graph.inputs if value not in constants]
    return _program(graph, inputs, graph.outputs, constants, scope)


def _program(
    nodes: Iterable[ir.Node],
    inputs: Iterable[ir.Value],
    outputs: Iterable[ir.Value],
    constants: Mapping[ir.Value, Any],
    scope: Scope,
) -> Program:
    stored, steps = dict(constants), []
    for node in nodes:
        constant = _stored_constant(node, scope)
        if constant is not None:
            stored[node.outputs[0]] = constant
        else:
            steps.append(_step(node, scope))
    return Program(inputs, outputs, stored, steps)


def _function_program(function: ir.Function, attributes: Mapping[str, ir.Attr], scope: Scope) -> Program:
    """The body of a function, called with these attributes."""
    if scope.depth >= _DEEPEST:
        raise FoldError(function.name, f"functions call each other {_DEEPEST} deep", "check it with onnx.checker")
    defaults = {name: attr for name, attr in function.attributes.items() if attr.value is not None}
    inner = Scope(
        _opsets({**scope.opsets, **function.opset_imports}),
        scope.functions,
        {**defaults, **attributes},
        scope.with_torch,
        scope.depth + 1,
    )
    return _program(function, function.inputs, function.outputs, {}, inner)


def _step(node: ir.Node, scope: Scope) -> Step:
    place = f"{node.op_type} {node.name or next((value.name for value in node.outputs if value.name), '')}".strip()
    version = scope.version(node.domain)
    given = _bound(node, scope)
    subgraphs = {
        name: _graph_program(attr.as_graph(), scope)
        for name, attr in given.items()
        if attr.type == ir.AttributeType.GRAPH
    }
    attributes = {name: _value(attr) for name, attr in given.items() if name not in subgraphs}
    kernel, schema = _kernel_of_function(node, given, scope), None
    if kernel is None:
        schema = resolve.schema_of(node, version, place)
        kernel = resolve.own_kernel(node, version, place)
        if kernel is None and schema is not None and resolve.is_defined(schema):
            kernel = _kernel_of_definition(schema, node, given, scope)
    if kernel is None:
        raise resolve.unknown(node, place)
    if schema is not None:
        attributes = {**_defaults(schema.name, schema.since_version, schema.domain), **attributes}
    wanted = tuple(bool(value.name) for value in node.outputs)
    call = Call(node.op_type, version, attributes, wanted, {}, scope.with_torch)
    return Step(place, kernel, call, tuple(node.inputs), tuple(node.outputs), subgraphs, ())


def _bound(node: ir.Node, scope: Scope) -> dict[str, ir.Attr]:
    """The node's attributes, references to the parameters of its function resolved."""
    bound = {}
    for name, attr in node.attributes.items():
        if not attr.is_ref():
            bound[name] = attr
        elif attr.ref_attr_name in scope.parameters:  # else the operator's default holds
            parameter = scope.parameters[str(attr.ref_attr_name)]
            bound[name] = ir.Attr(name, parameter.type, parameter.value)
    return bound


def _kernel_of_function(node: ir.Node, attributes: Mapping[str, ir.Attr], scope: Scope) -> Kernel | None:
    """A kernel that runs the model's own function of that name, None where there is none."""
    function = scope.functions.get((node.domain, node.op_type, node.overload))
    if function is None:
        return None
    return _calling(_function_program(function, attributes, scope))


def _calling(program: Program) -> Kernel:
    def call_function(_: Call, *inputs: Value) -> tuple[Value, ...]:
        missing = [None] * (len(program.inputs) - len(inputs))
        return tuple(program.run([*inputs, *missing]))

    return call_function


def _kernel_of_definition(schema: Any, node: ir.Node, attributes: Mapping[str, ir.Attr], scope: Scope) -> Kernel:
    """A kernel that runs ONNX's own definition of the operator, made for the types of the first inputs it gets."""
    made: dict[tuple[str, ...], Kernel] = {}
    complete = {**_default_attributes(schema), **attributes}
    version = scope.version(node.domain)
    copy = ir.Node(node.domain, node.op_type, node.inputs, complete.values(), num_outputs=len(node.outputs))
    for old, new in zip(node.outputs, copy.outputs, strict=True):
        new.name = old.name
    if schema.has_function:  # the same for all types: what it holds can be found unknown now
        made[()] = _calling(_function_program(resolve.definition(schema, copy, version, ()), complete, scope))
    for index, value in enumerate(node.inputs):  # detach: the copy must not count as a user of the graph's values
        copy.replace_input_with(index, None if value is None else ir.Value(name=value.name))

    def run_definition(call: Call, *inputs: Value) -> tuple[Value, ...]:
        kinds = () if schema.has_function else tuple(str(getattr(value, "dtype", type(value))) for value in inputs)
        if kinds not in made:
            function = resolve.definition(schema, copy, version, inputs)
            made[kinds] = _calling(_function_program(function, complete, scope))
        results: tuple[Value, ...] = made[kinds](call, *inputs)
        return results

    return run_definition


def _default_attributes(schema: Any) -> dict[str, ir.Attr]:
    defaults = {name: each.default_value for name, each in schema.attributes.items() if each.default_value.name}
    return {name: ir.serde.deserialize_attribute(proto) for name, proto in defaults.items()}


_DEFAULTS: dict[tuple[str, int, str], dict[str, Any]] = {}


def _defaults(name: str, since: int, domain: str) -> dict[str, Any]:
    key = name, since, domain
    if key not in _DEFAULTS:
        attributes = _default_attributes(onnx.defs.get_schema(name, since, domain))
        _DEFAULTS[key] = {name: _value(attr) for name, attr in attributes.items()}
    return _DEFAULTS[key]


def _value(attr: ir.Attr) -> Any:
    """A number, text, tuple or array (tensors are widened)."""
    if attr.type == ir.AttributeType.TENSOR:
        return array_of(attr.as_tensor())
    if attr.type == ir.AttributeType.TYPE_PROTO:
        return attr.value
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return tuple(attr.value)
    return attr.value


def _stored_constant(node: ir.Node, scope: Scope) -> Any:
    """What a Constant node holds, None for another node; tensors stay as they are stored until they are read."""
    if node.op_type != "Constant" or plain_domain(node.domain) or len(node.attributes) != 1:
        return None
    (attr,) = _bound(node, scope).values() or (None,)
    if attr is None:
        return None
    if attr.type == ir.AttributeType.TENSOR:
        return attr.as_tensor()
    if attr.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        return np.array(attr.value, dtype=np.float64)
    if attr.type in (ir.AttributeType.INT, ir.AttributeType.INTS):
        return np.array(attr.value, dtype=np.int64)
    if attr.type in (ir.AttributeType.STRING, ir.AttributeType.STRINGS):
        return np.array(attr.value, dtype=object)
    return None
