"""The part of an exported program that one module became, as a module that can be run alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg


@dataclass(frozen=True)
class _Slot:
    """Where the result of a step stands: its number."""

    index: int


class ProgramPart(nn.Module):
    """The operators of one module of a program, from its only input to its only output.

    What it reads of the program's weights are its buffers, under the names that the module had for them.
    """

    def __init__(self, steps: list[tuple[Any, Any, Any]], names: dict[int, str], state: dict[str, Tensor]) -> None:
        super().__init__()
        self._steps, self._names = steps, names
        for name, value in state.items():
            self.register_buffer(name, value.detach().clone())

    def small_numbers(self) -> list[float]:
        """Numbers written in its code of which one may be the epsilon: positive and at most 0.1."""
        written = [item for _, args, kwargs in self._steps for item in (*args, *kwargs.values())]
        return list(dict.fromkeys(item for item in written if isinstance(item, float) and 0 < item <= 0.1))

    def forward(self, x: Tensor) -> Any:
        """x -> what the module returned for it."""
        values: list[Any] = [x, *(self.get_buffer(name) for name in self._names.values())]
        for target, args, kwargs in self._steps:
            values.append(target(*_filled(args, values), **_filled(kwargs, values)))
        return values[-1]


def _filled(template: Any, values: list[Any]) -> Any:
    if isinstance(template, _Slot):
        return values[template.index]
    if isinstance(template, (list, tuple)):
        return type(template)(_filled(item, values) for item in template)
    if isinstance(template, dict):
        return {key: _filled(item, values) for key, item in template.items()}
    return template


def module_path(node: Node) -> str:
    """The path of the module that a node comes from, "layer1.0.bn1"; the second call of one has "@1" behind it."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def class_of(program: ExportedProgram, path: str) -> str:
    """The name of the class that the module at `path` had, "OwnNorm"; "" where the program does not say."""
    for node in program.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if stack and str(stack[-1][0]) == path:
            return str(stack[-1][1]).rpartition(".")[2]
    return ""


def part_of(program: ExportedProgram, path: str) -> ProgramPart | None:
    """What the module at `path` computes; None unless it has one input that is not a weight, and one output."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and module_path(node) == path]
    weights, inside = _weights(program), set(nodes)
    read = list(dict.fromkeys(each for node in nodes for each in node.all_input_nodes if each not in inside))
    inputs = [node for node in read if node.name not in weights]
    outputs = [node for node in nodes if any(user not in inside for user in node.users)]
    if not nodes or len(inputs) != 1 or outputs != nodes[-1:] or not isinstance(inputs[0].meta.get("val"), Tensor):
        return None
    stored = [node for node in read if node.name in weights]
    slots = {node: _Slot(index) for index, node in enumerate([*inputs, *stored, *nodes])}
    steps = [
        (node.target, *(map_arg(each, lambda node: cast(Any, slots[node])) for each in (node.args, node.kwargs)))
        for node in nodes
    ]
    state = {weights[node.name].rpartition(".")[2]: _value(program, weights[node.name]) for node in stored}
    if len(state) != len(stored):
        return None
    return ProgramPart(_plain(steps), dict(enumerate(state)), state)


def _plain(steps: list[Any]) -> list[Any]:
    """torch.fx keeps arguments in lists and dicts of its own."""
    return [(target, _thawed(args), _thawed(kwargs)) for target, args, kwargs in steps]


def _thawed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _thawed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_thawed(item) for item in value]
    return tuple(_thawed(item) for item in value) if isinstance(value, tuple) else value


def _weights(program: ExportedProgram) -> dict[str, str]:
    """Names of nodes that stand for weights, with the weights' names."""
    signature = program.graph_signature
    return {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }


def _value(program: ExportedProgram, name: str) -> Tensor:
    value = program.state_dict.get(name, program.constants.get(name))
    assert isinstance(value, torch.Tensor)
    return value
