"""A program's parts held against each other: what it names must be there, and be named once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from normexport.checkpoint.pt2.operators import require_switched_off
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun, quoted
from normexport.checkpoint.pt2.treespec import plain_treespec


def require_consistent(program: Mapping[str, Any], weights: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    """Refuse a validated program that PyTorch would stumble over, or that draws random numbers.

    Raises:
        Damaged, WouldRun: naming what does not fit.
    """
    module = program["graph_module"]
    _require_tensors(module["signature"]["input_specs"], weights, constants)
    _require_call(module)
    for node in _nodes(module["graph"]):
        arguments = {each["name"]: next(iter(each["arg"].values())) for each in node["inputs"]}
        require_switched_off(node["target"], arguments)


def _require_tensors(specs: list[Any], weights: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind in ("custom_obj", "token"):
            raise WouldRun("an object of the author's own class")
        names = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        if kind not in names:
            continue
        name = value[names[kind]]
        stored = weights if kind == "parameter" or (kind == "buffer" and value["persistent"]) else constants
        if name not in stored:
            raise Damaged(f"it holds no numbers for {name}")


def _require_call(module: Mapping[str, Any]) -> None:
    """The structures of inputs and outputs have a leaf for each of them."""
    roots = [entry for entry in module["module_call_graph"] if entry["fqn"] == ""]
    if len(roots) != 1 or roots[0].get("signature") is None:
        raise Damaged("it does not say how it is called")
    _, leaves = plain_treespec(roots[0]["signature"]["in_spec"], arguments=True)
    inputs = [spec for spec in module["signature"]["input_specs"] if {"user_input", "constant_input"} & set(spec)]
    if leaves != len(inputs):
        raise Damaged(f"it is called with {leaves} values and has {len(inputs)} inputs")
    _, returned = plain_treespec(roots[0]["signature"]["out_spec"])
    outputs = [spec for spec in module["signature"]["output_specs"] if "user_output" in spec]
    if returned != len(outputs):
        raise Damaged(f"it returns {returned} values and has {len(outputs)} outputs")
    names = roots[0]["signature"].get("forward_arg_names")
    if names is not None and len(set(names)) != len(names):
        raise Damaged(f"two of its inputs are called {quoted(names)}")


def _nodes(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All nodes, those of graphs inside included."""
    for node in graph["nodes"]:
        yield node
        for each in node["inputs"]:
            if inner := each["arg"].get("as_graph"):
                yield from _nodes(inner["graph"])
