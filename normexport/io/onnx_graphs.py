"""Whether an ONNX file is whole: every graph, function, node, value and tensor of it, before anything else reads them.

What is checked once here needs no second thought behind the door: tensors hold what their dimensions say, attributes
are of their types, names are made once and before they are read, functions call each other in no circle, and there is
no more of anything than the limits below allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from normexport.errors import FoldError
from normexport.io.external_data import ExternalFiles, quote
from normexport.io.onnx_attributes import check_attribute, check_attributes
from normexport.io.onnx_domain import is_onnx_domain, plain_domain
from normexport.io.onnx_tensors import AGAIN, check_tensors, known_type
from normexport.io.onnx_text import check_text
from normexport.io.onnx_walk import graphs_in, subgraphs

#: Limits of one file. The largest networks that are exported, unrolled, have 30,000 nodes.
MOST_NODES = 200_000  # with the bodies of functions where they are called
MOST_PARTS = 1_000_000  # values, attributes, tensors, numbers of dimensions
MOST_NUMBERS = 4_000_000  # in the lists of attributes
LONGEST_NAME = 10_000  # characters
DEEPEST = 64  # functions and subgraphs within each other

#: How old exporters write a size that is not known.
UNKNOWN = -1


def check_model(model: onnx.ModelProto, place: str, files: ExternalFiles, left_out: Sequence[int | None] = ()) -> None:
    """Check all of a model.

    Args:
        place: the file, as messages name it.
        files: where external data may lie.
        left_out: for every initializer of the main graph the bytes of raw data that were not read, None where all was.

    Raises:
        FoldError: names what is wrong, and where.
    """
    _Calls(model.functions, place).check(model.graph.node)  # first: what follows takes its time for each node
    check_tensors(model, place, files, left_out)
    _Check(place).model(model)
    check_text(model, place)


class _Check:
    """One walk over a model, and what it has counted so far."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._parts = self._numbers = 0
        self._opsets: dict[str, int] = {}
        self._parameters: frozenset[str] | None = None

    def model(self, model: onnx.ModelProto) -> None:
        self._opsets = self._opset_versions(model.opset_import, "")
        if len({_key(each.domain, each.name, each.overload) for each in model.functions}) != len(model.functions):
            raise self._wrong("", "holds two functions of one name")
        self._graph(model.graph, ())
        for function in model.functions:
            self._require_own_name(function)
            self._function(function)

    def _graph(self, graph: onnx.GraphProto, outer: tuple[set[str], ...]) -> None:
        own: set[str] = set()
        for value in graph.input:
            self._define(value.name, own, "input", f"input {quote(value.name)}")
        if len({tensor.name for tensor in graph.initializer}) != len(graph.initializer):
            raise self._wrong("", "holds two initializers of one name")
        if graph.sparse_initializer:
            raise self._wrong("", "holds sparse tensors, which are not read")
        for tensor in graph.initializer:
            if not tensor.name:
                raise self._wrong("", "holds an initializer without a name")
            self._check_length(tensor.name)
            self._tensor(tensor)
            own.add(tensor.name)
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._value(value)
        self._nodes(graph.node, (*outer, own))
        for value in graph.output:
            if not value.name or not any(value.name in names for names in (*outer, own)):
                raise self._wrong(f"output {quote(value.name)}", "nothing makes it")

    def _function(self, function: onnx.FunctionProto) -> None:
        where = f"function {quote(function.name)}"
        own: set[str] = set()
        for name in function.input:
            self._define(name, own, "input", where)
        declared = [*function.attribute, *(attribute.name for attribute in function.attribute_proto)]
        if len(set(declared)) != len(declared):
            raise self._wrong(where, "declares two attributes of one name")
        model_opsets, self._opsets = self._opsets, self._opset_versions(function.opset_import, where)
        for attribute in function.attribute_proto:
            check_attribute(attribute, self._at(where), None)
            self._inside(attribute, where, ())
        self._parameters = frozenset(declared)
        for value in function.value_info:
            self._value(value)
        self._nodes(function.node, (own,))
        self._parameters, self._opsets = None, model_opsets
        for name in function.output:
            if name not in own:
                raise self._wrong(where, f"nothing makes its output {quote(name)}")

    def _nodes(self, nodes: Iterable[onnx.NodeProto], scopes: tuple[set[str], ...]) -> None:
        """Nodes in their order: what they read is there, and what they make is new."""
        for node in nodes:
            where = f"node {quote(node.op_type)} '{quote(node.name or next(iter(node.output), ''))}'"
            if not node.op_type:
                raise self._wrong(where, "has no operator")
            if is_onnx_domain(node.domain) and not self._opsets.get("") and self._parameters is None:
                raise self._wrong(where, "is of ONNX's own operators, of which the file names no version")
            if node.device_configurations:
                raise self._wrong(where, "is spread over devices, which is not read")
            self._take(1 + len(node.input) + len(node.output) + len(node.attribute))
            self._check_length(node.name)
            for name in node.input:
                if name and not any(name in names for names in scopes):
                    raise self._wrong(where, f"reads '{quote(name)}', which nothing before it makes")
            check_attributes(node, self._at(where), self._opsets, self._parameters)
            for attribute in node.attribute:
                self._inside(attribute, where, scopes)
            for name in node.output:
                if name:
                    self._define(name, scopes[-1], "output", where)

    def _inside(self, attribute: onnx.AttributeProto, where: str, scopes: tuple[set[str], ...]) -> None:
        self._take_numbers(len(attribute.ints) + len(attribute.floats) + len(attribute.strings))
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            self._tensor(tensor)
        for graph in graphs_in(attribute):
            self._graph(graph, scopes)
        for kind in (*([attribute.tp] if attribute.HasField("tp") else []), *attribute.type_protos):
            self._type(kind, where)

    def _tensor(self, tensor: onnx.TensorProto) -> None:
        self._take(1 + len(tensor.dims))
        self._take_numbers(len(tensor.string_data))

    def _value(self, value: onnx.ValueInfoProto) -> None:
        self._check_length(value.name)
        self._type(value.type, f"value {quote(value.name)}")

    def _type(self, kind: onnx.TypeProto, where: str) -> None:
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = (kind.sequence_type if kind.HasField("sequence_type") else kind.optional_type).elem_type
        found = kind.WhichOneof("value")
        if found is None:
            return
        if found not in ("tensor_type", "sparse_tensor_type"):
            raise self._wrong(where, f"is a {found.removesuffix('_type')}, which is not read")
        tensor = getattr(kind, found)
        if tensor.elem_type and not known_type(tensor.elem_type):
            raise self._wrong(where, f"is of the unknown type {tensor.elem_type}")
        self._take(1 + len(tensor.shape.dim))
        for dim in tensor.shape.dim:
            if dim.dim_value < UNKNOWN:
                raise self._wrong(where, f"has the size {dim.dim_value}")

    def _opset_versions(self, imports: Iterable[onnx.OperatorSetIdProto], where: str) -> dict[str, int]:
        versions: dict[str, int] = {}
        for each in imports:
            domain = plain_domain(each.domain)
            if domain in versions or each.version < 0:
                raise self._wrong(where, f"names the operator set '{quote(domain)}' twice, or a negative version")
            versions[domain] = each.version
        return versions

    def _require_own_name(self, function: onnx.FunctionProto) -> None:
        """ONNX leaves it to runtimes which of the two a node means; those that were tried take the operator."""
        version = self._opsets.get("", 0)
        if not is_onnx_domain(function.domain) or version < 1:
            return
        try:
            onnx.defs.get_schema(function.name, version, "")
        except onnx.defs.SchemaError:
            return
        cause = f"its function '{quote(function.name)}' is called as an operator of ONNX, and a node may mean either"
        raise FoldError(self._at(""), cause, "give the function a domain of its own")

    def _define(self, name: str, names: set[str], what: str, where: str) -> None:
        self._check_length(name)
        if not name or name in names:
            cause = f"its {what} '{quote(name)}' is made twice" if name else f"has an {what} without a name"
            raise self._wrong(where, cause)
        names.add(name)

    def _check_length(self, name: str) -> None:
        if len(name) > LONGEST_NAME:
            raise self._wrong("", f"holds a name of {len(name)} characters, {quote(name, 40)}")

    def _take(self, count: int) -> None:
        self._parts += count
        if self._parts > MOST_PARTS:
            raise self._wrong("", f"has more than {MOST_PARTS} values, attributes and dimensions")

    def _take_numbers(self, count: int) -> None:
        self._numbers += count
        if self._numbers > MOST_NUMBERS:
            raise self._wrong("", f"has more than {MOST_NUMBERS} numbers in attributes")

    def _at(self, where: str) -> str:
        return f"{self._place}: {where}" if where else self._place

    def _wrong(self, where: str, cause: str) -> FoldError:
        return FoldError(self._at(where), cause, AGAIN)


class _Calls:
    """Which function calls which: how many nodes that makes, and how deep it goes."""

    def __init__(self, functions: Iterable[onnx.FunctionProto], place: str) -> None:
        self._bodies = {_key(each.domain, each.name, each.overload): each.node for each in functions}
        self._known: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._place = place

    def check(self, main: Iterable[onnx.NodeProto]) -> None:
        """Whether there are few enough nodes, each call counted with all that it calls.

        Raises:
            FoldError: there are too many, or they lie too deep within each other.
        """
        total = self._measure(main, 0)[0] + sum(self._measure(body, 1)[0] for body in self._bodies.values())
        self._check_total(total)

    def _measure(self, nodes: Iterable[onnx.NodeProto], depth: int) -> tuple[int, int]:
        """Nodes and depth of what is called and held by `nodes`, which themselves lie at `depth`."""
        total = height = 0
        for node in nodes:
            total += 1
            within = [self._measure(graph.node, depth + 1) for graph in subgraphs(node)] if depth < DEEPEST else []
            called = _key(node.domain, node.op_type, node.overload)
            if called in self._bodies and depth < DEEPEST:
                if called not in self._known:
                    self._known[called] = self._measure(self._bodies[called], depth + 1)
                within.append(self._known[called])
            for count, deeper in within:
                total, height = total + count, max(height, deeper + 1)
            if depth + height >= DEEPEST:
                cause = f"functions and subgraphs lie more than {DEEPEST} deep within each other, or call themselves"
                raise FoldError(self._place, f"{cause} (at {quote(node.op_type)})", AGAIN)
            self._check_total(total)
        return total, height

    def _check_total(self, total: int) -> None:
        if total > MOST_NODES:
            cause = f"has more than {MOST_NODES} nodes, functions counted where they are called"
            raise FoldError(self._place, cause, AGAIN)


def _key(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    return plain_domain(domain), name, overload
