"""What makes an exported program no function of its inputs: buffers that it changes and reads, numbers that it draws.

An ONNX file has neither: a buffer keeps the value that the checkpoint holds, and no two runs draw the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import GraphModule, Node

_COPIES = (torch.ops.aten.copy.default, torch.ops.aten.copy_.default)  # (to, from): of `to` only the shape is read
_MUTATIONS = (OutputKind.BUFFER_MUTATION, getattr(OutputKind, "PARAMETER_MUTATION", None))


def doubts_of_program(program: ExportedProgram) -> tuple[str, ...]:
    """Why what the program computes can't be held against a file that computes the same at every run, in words.

    Buffers that change and are read by no output (a counter of calls) are no reason.
    """
    if _writes_into_its_own(program):
        program = program.run_decompositions({})  # to a graph that says so by its signature, and writes nowhere
    read = read_by_outputs(program)
    return tuple(dict.fromkeys((*_changed_buffers(program, read), *_drawn(program, read))))


def _writes_into_its_own(program: ExportedProgram) -> bool:
    """Whether an operator writes into a buffer or parameter, or into a view of one."""
    own = {*program.graph_signature.inputs_to_parameters, *program.graph_signature.inputs_to_buffers}
    return any(_origin(written).name in own for node in program.graph.nodes for written in _values_written(node))


def _values_written(node: Node) -> Iterator[Node]:
    """The values that an operator writes into."""
    if isinstance(node.target, torch._ops.OpOverload):
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Node):
                yield value


def _origin(node: Node) -> Node:
    """What a value is a view of, itself where it is none."""
    while isinstance(node.target, torch._ops.OpOverload) and node.args and isinstance(node.args[0], Node):
        alias = node.target._schema.arguments[0].alias_info
        if alias is None:
            break
        node = node.args[0]
    return node


def read_by_outputs(program: ExportedProgram) -> set[Node]:
    """Every node of the main graph that an output for the user follows from."""
    ends = {spec.arg.name for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT}
    pending = [node for node in program.graph.nodes if node.name in ends]
    found: set[Node] = set()
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending.extend(node.all_input_nodes[1:] if node.target in _COPIES else node.all_input_nodes)
    return found


def _changed_buffers(program: ExportedProgram, read: set[Node]) -> Iterator[str]:
    signature = program.graph_signature
    places = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    names = {node.name for node in read if node.op == "placeholder"}
    reads = {target for name, target in places.items() if name in names}
    for spec in signature.output_specs:
        if spec.kind in _MUTATIONS and spec.target in reads:
            yield f"{spec.target}: is changed by every run and read by it; the file keeps the value of the checkpoint"


def _drawn(program: ExportedProgram, read: set[Node]) -> Iterator[str]:
    for module in program.graph_module.modules():
        if not isinstance(module, GraphModule):
            continue
        main = module is program.graph_module
        for node in module.graph.nodes:
            if node.op == "call_function" and _draws(node) and (node in read or not main):
                yield f"{_where(node)}: draws random numbers in evaluation ({node.target})"


def _draws(node: Node) -> bool:
    """Whether an operator draws: a random one, with a share that is not zero, in training mode if it has one."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    given: dict[str, Any] = {}
    for index, argument in enumerate(target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        value = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name, default)
        given[argument.name] = value
    quiet = any(given.get(name) is False for name in ("train", "training"))
    share = next((given[name] for name in ("dropout_p", "dropout", "p") if name in given), None)
    return not quiet and share not in (0, 0.0)


def _where(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path or "the model"
