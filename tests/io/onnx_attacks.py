"""ONNX models that somebody else made, one attack each. Every function builds its model from the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT
X, Y = (helper.make_tensor_value_info(name, F, [1, 3, 8, 8]) for name in "xy")
WEIGHT = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
SECRET = np.full(9, 42.0, np.float32).tobytes()  # as many bytes as WEIGHT has


def model(
    nodes: list[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] | str = (),
    output: onnx.ValueInfoProto = Y,
    opset: int = 20,
) -> onnx.ModelProto:
    """A model from x to y."""
    graph = helper.make_graph(list(nodes), "net", [X], [output], list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def conv() -> onnx.ModelProto:
    """The honest model: y = Conv(x, w), then a BatchNormalization."""
    ones = numpy_helper.from_array(np.ones(3, np.float32), "one")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "one", "one", "one", "one"], ["y"], "bn"),
    ]
    return model(nodes, [WEIGHT, ones])


def spread() -> onnx.ModelProto:
    """A node that says on which devices it runs, without naming them."""
    proto = conv()
    proto.graph.node[0].device_configurations.add()
    return proto


def versionless() -> onnx.ModelProto:
    """A model that says of another domain alone which operators it means."""
    proto = conv()
    proto.opset_import[0].domain = "another"
    return proto


def hollow() -> onnx.ModelProto:
    """An If whose branches hand out a value from outside without a node."""
    branches = [helper.make_graph([], name, [], [X]) for name in ("then", "else")]
    yes = numpy_helper.from_array(np.asarray(True), "yes")
    return model([helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1])], [yes])


def constant(name: str, array: object) -> onnx.NodeProto:
    """A Constant node."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))


def outside(location: str, **entries: str) -> TensorProto:
    """A tensor of nine floats in another file."""
    tensor = TensorProto(name="w", data_type=F, dims=[3, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def branch(*tensors: TensorProto, nodes: Sequence[onnx.NodeProto] = ()) -> onnx.GraphProto:
    """A subgraph with these initializers."""
    return helper.make_graph(list(nodes), "branch", [], [], list(tensors))


def function(
    name: str, nodes: list[onnx.NodeProto], defaults: Sequence[onnx.AttributeProto] = ()
) -> onnx.FunctionProto:
    """A function of the domain d from X to Y."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    return helper.make_function("d", name, ["X"], ["Y"], list(nodes), opsets, attribute_protos=list(defaults))


def _call(name: str) -> onnx.NodeProto:
    return helper.make_node(name, ["x"], ["y"], domain="d")


def _in_initializer(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    proto.graph.initializer[0].CopyFrom(tensor)
    return proto


def _in_unused_initializer(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    proto.graph.initializer.add().CopyFrom(tensor)
    proto.graph.initializer[-1].name = "nobody_reads_it"
    return proto


def _in_constant(tensor: TensorProto) -> onnx.ModelProto:
    return model([helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Conv", ["x", "w"], ["y"])])


def _in_list(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    proto.graph.node[0].attribute.add(name="many", type=onnx.AttributeProto.TENSORS, tensors=[tensor])
    return proto


def _in_subgraph(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch(tensor), else_branch=branch())
    proto.graph.node.append(node)
    return proto


def _in_function(tensor: TensorProto) -> onnx.ModelProto:
    body = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Conv", ["X", "w"], ["Y"])]
    return model([_call("f")], functions=[function("f", body)], domains="d")


def _in_subgraph_of_function(tensor: TensorProto) -> onnx.ModelProto:
    inner = helper.make_node("If", ["X"], ["Y"], then_branch=branch(tensor), else_branch=branch())
    return model([_call("f")], functions=[function("f", [inner])], domains="d")


def _in_default(tensor: TensorProto) -> onnx.ModelProto:
    default = onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSOR, t=tensor)
    body = [helper.make_node("Relu", ["X"], ["Y"])]
    return model([_call("f")], functions=[function("f", body, [default])], domains="d")


def _in_sparse(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    proto.graph.sparse_initializer.add(values=tensor, dims=[9])
    return proto


def _in_sparse_attribute(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    sparse = onnx.SparseTensorProto(values=tensor, dims=[9])
    kind = onnx.AttributeProto.SPARSE_TENSOR
    proto.graph.node.add(op_type="Constant", output=["s"]).attribute.add(
        name="sparse_value", type=kind, sparse_tensor=sparse
    )
    return proto


def _in_training(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    proto.training_info.add().algorithm.CopyFrom(branch(tensor))
    return proto


def _in_constant_of_training(tensor: TensorProto) -> onnx.ModelProto:
    proto = conv()
    inside = branch(nodes=[helper.make_node("Constant", [], ["w"], value=tensor)])
    proto.training_info.add().initialization.CopyFrom(inside)
    return proto


#: Places in a model where a tensor can be, and with it a road to another file.
PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    name.removeprefix("_in_"): make for name, make in list(globals().items()) if name.startswith("_in_")
}


def write(proto: onnx.ModelProto | bytes, path: Path) -> Path:
    """The model as a file."""
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


# Bombs: a few bytes that claim, or compute, gigabytes.


def dims(*sizes: int) -> onnx.ModelProto:
    """A weight of 36 bytes with these dimensions."""
    proto = conv()
    proto.graph.initializer[0].dims[:] = sizes
    return proto


def doubled() -> onnx.ModelProto:
    """Forty times Concat(s, s): 4 * 2**40 numbers, by which x is multiplied."""
    nodes = [constant("s0", np.ones(4, np.float32))]
    nodes += [helper.make_node("Concat", [f"s{i}", f"s{i}"], [f"s{i + 1}"], axis=0) for i in range(40)]
    return _multiplied(nodes, "s40")


def expanded(size: int = 10**12) -> onnx.ModelProto:
    """One number, expanded to `size`."""
    return _multiplied(
        [constant("one", np.float32(1)), constant("to", [size]), helper.make_node("Expand", ["one", "to"], ["e"])], "e"
    )


def towers(times: int = 400) -> onnx.ModelProto:
    """64 MiB of numbers, raised to a power again and again: each is small enough, all together take an hour."""
    nodes = [
        constant("one", np.float32(1)),
        constant("to", [8 << 20]),
        helper.make_node("Expand", ["one", "to"], ["p0"]),
    ]
    nodes += [helper.make_node("Neg", [f"p{i}"], [f"p{i + 1}"]) for i in range(times)]
    return _multiplied(nodes, f"p{times}")


def outer_product() -> onnx.ModelProto:
    """A bounded weight of 20,000 numbers whose bounds would broadcast it to 80 GB."""
    wide = numpy_helper.from_array(np.ones((1, 10**5, 1, 1), np.float32), "v")
    tall = numpy_helper.from_array(np.ones((10**5, 1, 1, 1), np.float32), "rho")
    bounded = helper.make_node("BoundedWeightNorm", ["v", "rho"], ["w"], "wn", domain="normexport", axis=0, p=2.0)
    return model([bounded, helper.make_node("Conv", ["x", "w"], ["y"])], [wide, tall], domains=["normexport"])


def flattened() -> onnx.ModelProto:
    """A norm of 3 channels in front of 10**12 pixels, flattened."""
    proto = conv()
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", F, [1, 3, 10**6, 10**6]))
    proto.graph.node.add(op_type="Flatten", input=["y"], output=["f"])
    proto.graph.node.add(op_type="Gemm", input=["f", "fc"], output=["z"])
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((3, 2), np.float32), "fc"))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", F, None))
    del proto.graph.node[0]
    proto.graph.node[0].input[0] = "x"
    return proto


def laughs(height: int = 40) -> onnx.ModelProto:
    """Functions, each of which calls the one below twice: 2**40 nodes."""
    functions = [function("f0", [helper.make_node("Relu", ["X"], ["Y"])])]
    for i in range(1, height + 1):
        calls = [helper.make_node(f"f{i - 1}", [a], [b], domain="d") for a, b in (("X", "t"), ("t", "Y"))]
        functions.append(function(f"f{i}", calls))
    return model([_call(f"f{height}")], functions=functions, domains="d")


def circle() -> onnx.ModelProto:
    """Two functions that call each other."""
    pair = [function(a, [helper.make_node(b, ["X"], ["Y"], domain="d")]) for a, b in ("fg", "gf")]
    return model([_call("f")], functions=pair, domains="d")


def empty_nodes(count: int) -> bytes:
    """Two bytes a node, which take 157 in memory."""
    graph = b"\x0a\x00" * count
    return b"\x08\x0a\x42\x02\x10\x14" + b"\x3a" + _varint(len(graph)) + graph


def nested(depth: int) -> bytes:
    """An If in an If in an If."""
    graph = b""
    for _ in range(depth):
        attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"
        graph = _field(1, _field(4, b"If") + _field(5, attribute))
    return b"\x08\x0a\x42\x02\x10\x14" + _field(7, graph)


def lowest_by_minus_one() -> onnx.ModelProto:
    """-2**63 / -1: the processor refuses it with SIGFPE."""
    nodes = [
        constant("lowest", [-(2**63)]),
        constant("minus_one", [-1]),
        helper.make_node("Div", ["lowest", "minus_one"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["real"], to=F),
        helper.make_node("Add", ["x", "real"], ["y"]),
    ]
    return model(nodes)


def _multiplied(nodes: list[onnx.NodeProto], constant: str) -> onnx.ModelProto:
    total = helper.make_node("ReduceSum", [constant], ["total"], keepdims=0)
    return model([*nodes, total, helper.make_node("Mul", ["x", "total"], ["y"], "mul")])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
