"""Random networks of all operators that networks use, opsets 9 to 23, with everything odd that files may hold.

`random_network(choices)` gives an ONNX model in float32, a sample of its inputs, and whether it jumps. What no step of
its growth refuses is a valid model; the sample's numbers are finite. Sizes stay tiny.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import helper, numpy_helper

from normexport import norms
from normexport.errors import NormExportError
from normexport.runtime import OnnxRuntime
from normexport.runtime.guarded import in_child
from tests.folding.choices import Choices
from tests.precision import random_control, random_elementwise, random_heavy, random_oddities, random_shaping
from tests.precision.random_growth import Growth, Unfit, Value, stored

OPSETS = (*range(9, 24), 20, 20, 20)  # 20 is what the project's own norms come with
STEPS: tuple[tuple[int, Callable[[Growth], None]], ...] = (
    *random_heavy.STEPS,
    *random_elementwise.STEPS,
    *random_shaping.STEPS,
    *random_control.STEPS,
)
DECK = tuple(step for weight, step in STEPS for _ in range(weight))


@dataclass(frozen=True)
class Network:
    """A model, what each input holds in a sample of it, and whether small errors may become large ones."""

    model: onnx.ModelProto
    sample: dict[str, np.ndarray]
    jumps: bool


def random_network(choices: Choices) -> Network:
    """A network of 1 to 9 steps that the checker takes and ONNX Runtime computes."""
    norms.register_schemas()
    while True:
        network = _grown(choices)
        if _is_sound(network):
            return network


def _grown(choices: Choices) -> Network:
    g = Growth(choices, choices.one_of(OPSETS))
    _inputs(g)
    for _ in range(choices.integer(2, 9)):
        _step(g)
    if len(g.values) == len(g.inputs):
        g.node("Relu", [g.inputs[0]])
    outputs = [value for value in _made(g) if not g.used[value.name] or choices.chance(8)]
    outputs = outputs or _made(g)[-1:]
    return random_oddities.finished(g, outputs)


def _is_sound(network: Network) -> bool:
    """Sizes on which checker, interpreter and ONNX Runtime differ (rare ones of ceil_mode, SAME) prove nothing here.

    ONNX Runtime runs in a process of its own: it dies of 1 network in some thousands.
    """
    try:
        onnx.checker.check_model(network.model, full_check=True)
        in_child(partial(_run, network), "network")
    except (NormExportError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _run(network: Network) -> None:
    runtime = OnnxRuntime(network.model)
    runtime.run({port.name: network.sample[port.name] for port in runtime.inputs})


def _made(g: Growth) -> list[Value]:
    given = {value.name for value in g.inputs}
    return [value for value in g.values if value.name not in given]


def _inputs(g: Growth) -> None:
    """An image, a sequence, a vector, or a row of numbers; at times a second one, of whole numbers."""
    batch = g.choices.integer(1, 3)
    kind = g.choices.one_of(("image", "image", "image", "signal", "volume", "sequence", "rows", "rows"))
    shape = {
        "image": (batch, g.choices.integer(1, 4), g.choices.integer(3, 6), g.choices.integer(3, 6)),
        "signal": (batch, g.choices.integer(1, 4), g.choices.integer(4, 8)),
        "volume": (batch, g.choices.integer(1, 2), 3, 4, 3),
        "sequence": (batch, g.choices.integer(2, 5), g.choices.integer(2, 6)),
        "rows": (batch, g.choices.integer(1, 8)),
    }[kind]
    g.input(g.normal(*shape))
    if g.choices.chance(25):
        g.input(g.rng.integers(0, 6, (batch, 3)).astype(g.choices.one_of((np.int64, np.int32))))
    if g.choices.chance(12):
        g.input(g.normal(*shape))
    if g.choices.chance(3):
        g.input(g.normal())


def _step(g: Growth) -> None:
    """One random step; what it made before it turned out unfit goes again."""
    nodes, values, constants = len(g.nodes), len(g.values), dict(g.constants)
    used, jumps, functions = g.used.copy(), g.jumps, len(g.functions)
    step = g.choices.one_of(DECK)
    try:
        step(g)
    except Unfit:
        del g.nodes[nodes:], g.values[values:], g.functions[functions:]
        g.constants, g.used, g.jumps = constants, used, jumps


def plain_model(g: Growth, outputs: list[Value]) -> onnx.ModelProto:
    """The network as a model with nothing odd about it."""
    graph = helper.make_graph(
        g.nodes,
        "network",
        [helper.make_tensor_value_info(v.name, v.elem, v.shape) for v in g.inputs],
        [helper.make_tensor_value_info(v.name, v.elem, v.shape) for v in outputs],
        [numpy_helper.from_array(stored(v), v.name) for v in g.constants.values()],
    )
    functions = g.bodies(list(_all_nodes(graph)))
    used = {node.domain for node in _all_nodes(graph)} | {function.domain for function in functions}
    opsets = [each for each in g.opsets() if each.domain in used or each.domain == ""]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=norms.IR_VERSION)


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _all_nodes(attribute.g)
    return found
