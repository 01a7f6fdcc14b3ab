"""Whole attacks put into an honest ONNX graph: files outside the folder, sizes that are lies, results of gigabytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz import hostile
from tests.fuzz.dice import Dice

Model = onnx.ModelProto

#: Where external data may be said to lie; `link.bin` points to the secret, `pipe` is a pipe nobody writes to.
LOCATIONS = (
    "../secret.bin", "link.bin", "link/secret.bin", "loop.bin", "pipe", "/etc/passwd", "/proc/self/environ",
    "/dev/zero", "/dev/stdin", "", ".", "..", "a\x00b", "model.onnx", "model.onnx.data", "./model.onnx.data",
    "x/../../secret.bin", "//etc/passwd", "~/x", "x" * 5000, "C:\\x", "file:///etc/passwd", "no such file", "case\r",
    "MODEL.ONNX.DATA", "*/_ORT_MEM_ADDR_/*", "*/weights/*", hostile.MARKER,
)  # fmt: skip

_SINGLES = tuple(value for value in hostile.FLOATS if not 1e38 < abs(value) < float("inf"))


def mutate(model: Model, dice: Dice) -> str:
    """Put one attack into the model; its name in words."""
    attack = dice.weighted(ATTACKS)
    attack(model, dice)
    return f"attack: {attack.__name__.strip('_')}"


def _external(model: Model, dice: Dice) -> None:
    """A tensor somewhere says that its data lies in a file."""
    tensor = TensorProto(name="external", data_type=dice.one_of((1, 1, 2, 7, 10)), dims=[dice.one_of((4, 16, 272))])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=dice.one_of(LOCATIONS).replace("\ud800", ""))
    for key in ("offset", "length", "checksum", "basepath"):
        if dice.chance(30):
            tensor.external_data.add(
                key=key, value=dice.one_of((str(hostile.integer(dice)), "0", "x", "", "../", "1e3", "９"))
            )
    graph = model.graph
    where = dice.one_of(
        (
            "initializer",
            "existing",
            "existing",
            "constant",
            "sparse",
            "function",
            "training",
            "subgraph",
            "quantization",
        )
    )
    if where == "existing" and graph.initializer:
        old = dice.one_of(graph.initializer)
        name, dims, kind = old.name, list(old.dims), old.data_type
        old.CopyFrom(tensor)
        old.name = name
        if dice.chance(70):
            del old.dims[:]
            old.dims.extend(dims)
            old.data_type = kind
    elif where == "constant":
        graph.node.insert(0, helper.make_node("Constant", [], ["external_constant"], value=tensor))
        _use(model, "external_constant", dice)
    elif where == "sparse":
        graph.sparse_initializer.add(values=tensor, dims=[4])
    elif where == "function":
        function = model.functions.add(name="F", domain="evil")
        function.node.add(op_type="Constant", output=["y"]).attribute.add(name="value", type=4).t.CopyFrom(tensor)
        function.output.append("y")
    elif where == "training":
        model.training_info.add().initialization.initializer.append(tensor)
    elif where == "subgraph":
        inner = helper.make_graph(
            [helper.make_node("Identity", ["external"], ["z"])],
            "inner",
            [],
            [helper.make_tensor_value_info("z", 1, None)],
            [tensor],
        )
        graph.node.insert(
            0, helper.make_node("If", ["condition"], ["external_if"], then_branch=inner, else_branch=inner)
        )
        graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
        _use(model, "external_if", dice)
    else:
        graph.initializer.append(tensor)
        _use(model, "external", dice)


def _use(model: Model, name: str, dice: Dice) -> None:
    """Let an input of a node, or an output of the graph, be this value; at times nothing uses it."""
    nodes = [node for node in model.graph.node if len(node.input) > 1]
    if dice.chance(70) and nodes:
        node = dice.one_of(nodes)
        node.input[dice.randrange(len(node.input))] = name
    elif dice.chance(50):
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))


def _dims(model: Model, dice: Dice) -> None:
    """A tensor says that it is larger than its data."""
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.type == 4)]
    tensor = dice.one_of(tensors) if tensors else model.graph.initializer.add()
    size = dice.one_of((10**12, 2**62, 2**63 - 1, -1, -(2**63), 0, 10**9, 65536))
    if tensor.dims and dice.chance(50):
        tensor.dims[dice.randrange(len(tensor.dims))] = size
    else:
        tensor.dims.extend([size] * dice.one_of((1, 2, 4, 70)))
    if dice.chance(30):
        tensor.ClearField(dice.one_of(("raw_data", "float_data", "int64_data")))
    if dice.chance(30):
        tensor.data_type = dice.randrange(30)


def _expand(model: Model, dice: Dice) -> None:
    """Nodes over constants whose result is much larger than the file."""
    size = dice.one_of((10**6, 10**8, 3 * 10**9, 10**11, 2**62))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "bomb_one"))
    graph.initializer.append(numpy_helper.from_array(np.array([size], np.int64), "bomb_size"))
    graph.initializer.append(numpy_helper.from_array(np.array(size, np.int64), "bomb_limit"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "bomb_zero"))
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "bomb_step"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, size], np.int64), "bomb_pads"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.float32), "bomb_values"))
    node = dice.one_of((
        helper.make_node("Expand", ["bomb_one", "bomb_size"], ["bomb"]),
        helper.make_node("Tile", ["bomb_one", "bomb_size"], ["bomb"]),
        helper.make_node("ConstantOfShape", ["bomb_size"], ["bomb"]),
        helper.make_node("Range", ["bomb_zero", "bomb_limit", "bomb_step"], ["bomb"]),
        helper.make_node("Pad", ["bomb_one", "bomb_pads"], ["bomb"]),
        helper.make_node("RandomNormal", [], ["bomb"], shape=[size]),
        helper.make_node("EyeLike", ["bomb_square"], ["bomb"]),
        helper.make_node("OneHot", ["bomb_size", "bomb_limit", "bomb_values"], ["bomb"]),
        helper.make_node("Resize", ["bomb_one", "", "", "bomb_size"], ["bomb"]),
    ))  # fmt: skip
    graph.node.insert(0, node)
    _use(model, "bomb", dice)


def _doubled(model: Model, dice: Dice) -> None:
    """Forty times a value beside itself: 2 ** 40 elements."""
    graph, here = model.graph, "double_0"
    graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), here))
    count = dice.one_of((10, 22, 28, 40, 60))
    made = dice.one_of(("Concat", "Concat", "Sum", "Mul"))
    nodes = []
    for index in range(1, count + 1):
        extra: dict[str, Any] = {"axis": 0} if made == "Concat" else {}
        nodes.append(helper.make_node(made, [here, here], [f"double_{index}"], **extra))
        here = f"double_{index}"
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    _use(model, here, dice)


def _nested(model: Model, dice: Dice) -> None:
    """An If in an If in an If."""
    depth = dice.one_of((2, 10, 30))  # 3 messages a level, and protobuf reads 100
    inner = helper.make_graph([], "leaf", [], [])
    for _ in range(depth):
        inner = helper.make_graph(
            [helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=helper.make_graph([], "e", [], []))],
            "inner",
            [],
            [],
        )
    model.graph.node.extend(inner.node)


def _function(model: Model, dice: Dice) -> None:
    """A function that calls itself, that another calls twice, or that shadows an operator."""
    way = dice.one_of(("recursive", "twice", "shadow"))
    function = model.functions.add(name="F", domain="evil")
    function.opset_import.add(domain="", version=20)
    function.input.append("x")
    function.output.append("y")
    model.opset_import.add(domain="evil", version=1)
    if way == "recursive":
        function.node.add(op_type="F", domain="evil", input=["x"], output=["y"])
        function.opset_import.add(domain="evil", version=1)
    elif way == "shadow":
        function.name, function.domain = dice.one_of(
            (("Conv", ""), ("BatchNormalization", ""), ("L1BatchNorm", "normexport"), ("RunningNorm", "normexport"))
        )
        function.node.add(op_type="Identity", input=["x"], output=["y"])
    else:
        previous = "F"
        function.node.add(op_type="Identity", input=["x"], output=["y"])
        for index in range(dice.one_of((3, 25))):
            each = model.functions.add(name=f"F{index}", domain="evil", input=["x"], output=["y"])
            each.opset_import.add(domain="evil", version=1)
            each.node.add(op_type=previous, domain="evil", input=["x"], output=["h"])
            each.node.add(op_type=previous, domain="evil", input=["h"], output=["y"])
            previous = f"F{index}"
        function = model.functions[-1]
    if model.graph.input:
        model.graph.node.add(
            op_type=function.name, domain=function.domain, input=[model.graph.input[0].name], output=["called"]
        )


def _rename(model: Model, dice: Dice) -> None:
    """A value's name is another everywhere, so that the graph stays whole."""
    graph = model.graph
    names = sorted(
        {each for node in graph.node for each in (*node.input, *node.output) if each}
        | {each.name for each in graph.input}
    )
    old, new = dice.one_of(names or ["x"]), hostile.name(dice).encode("utf-8", "replace").decode()
    for node in graph.node:
        for field in (node.input, node.output):
            for index, value in enumerate(field):
                if value == old:
                    field[index] = new
    for each in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        if each.name == old:
            each.name = new


def _attribute(model: Model, dice: Dice) -> None:
    """An attribute of another type, a reference to one that no function has, or values that divide by zero."""
    nodes = [node for node in model.graph.node if node.attribute] or [model.graph.node.add(op_type="Relu")]
    node = dice.one_of(nodes)
    attribute = dice.one_of(node.attribute) if node.attribute else node.attribute.add(name="x")
    way = dice.one_of(("type", "reference", "zeros", "long", "other"))
    if way == "type":
        attribute.type = dice.randrange(15)
    elif way == "reference":
        attribute.ref_attr_name = "alpha"
    elif way == "zeros":
        attribute.i = 0
        for index in range(len(attribute.ints)):
            attribute.ints[index] = dice.one_of((0, -1, hostile.integer(dice) % 2**63))
    elif way == "long":
        attribute.ints.extend([1] * dice.one_of((1, 5, 100_000)))
    else:
        name = attribute.name
        attribute.CopyFrom(helper.make_attribute("x", dice.one_of((1, 1.5, "text", [1, 2], [1.5], ["a"], b"\xff"))))
        attribute.name = name


def _norm(model: Model, dice: Dice) -> None:
    """A norm of ours, or a BatchNormalization, whose parameters have odd shapes and values."""
    graph = model.graph
    shape = dice.one_of(((6,), (0,), (1,), (), (6, 1), (5,), (2, 3), (6, 6)))
    for index in range(4):
        graph.initializer.append(
            numpy_helper.from_array(np.full(shape, dice.one_of(_SINGLES), np.float32), f"odd_{index}")
        )
    kind, domain, count = dice.one_of((
        ("BatchNormalization", "", 5), ("RunningNorm", "normexport", 5), ("L1BatchNorm", "normexport", 3),
        ("TopKInstanceNorm", "normexport", 3), ("QL1BatchNorm", "normexport", 3),
        ("BoundedWeightNorm", "normexport", 2), ("RangeBatchNorm", "normexport", 3), ("NoNorm", "normexport", 3),
    ))  # fmt: skip
    tensors = [each for node in graph.node for each in node.output] or ["x"]
    at = dice.one_of(tensors)
    node = helper.make_node(kind, [at, *(f"odd_{index}" for index in range(count - 1))], ["odd_norm"], domain=domain)
    node.attribute.append(
        helper.make_attribute(
            dice.one_of(("epsilon", "k", "chunks", "correction", "kind", "axis", "p")),
            dice.one_of((0, -1, 10**9, 1e-5, float("nan"), "l1", "klingon")),
        )
    )
    graph.node.append(node)
    _use(model, "odd_norm", dice)


ATTACKS: dict[Callable[[Model, Dice], None], int] = {
    _external: 8, _dims: 4, _expand: 4, _doubled: 2, _nested: 1, _function: 2, _rename: 4, _attribute: 4, _norm: 3,
}  # fmt: skip
