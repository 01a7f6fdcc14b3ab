"""Exported programs: loaded without code, and their norms found in state and graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from normexport.checkpoint.dialect import Dialect
from normexport.checkpoint.inspect_state import inspect_state
from normexport.checkpoint.pt2 import open_program
from normexport.checkpoint.records import Checkpoint, NormRecord
from normexport.checkpoint.state import State
from normexport.dtypes import HALVES, torch_dtypes
from normexport.norms import Scope

_LIVE_SCHEMA = ("x", "scale", "bias", "kind", "instance")


def load_program(path: Path, dialect: Dialect | None, trust: bool) -> Checkpoint:
    """Load `path`, an archive of `torch.export.save`.

    Raises:
        CheckpointError: it would run code and `trust` is not given, can't be read, or holds NaN.
    """
    program = open_program(path, trust)
    state, live = State.of({**program.state_dict, **_constants(program)}), tuple(_live_norms(program))
    norms, weights = inspect_state(state, dialect)
    kinds = _kinds(program)
    stored = [_as_in_graph(record, kinds) for record in norms]
    notes = tuple(_notes(program, state))
    return Checkpoint(path, "program", None, program, (*stored, *live), weights, notes)


def _constants(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Buffers that are not persistent are kept among the constants."""
    return {name: value for name, value in program.constants.items() if isinstance(value, torch.Tensor)}


def _calls(program: ExportedProgram, *names: str) -> Iterator[tuple[Node, str]]:
    """Nodes of these operators, each with its module path."""
    for node in program.graph.nodes:
        target = str(node.target)
        if node.op == "call_function" and target.startswith(tuple(f"{name}." for name in names)):
            stack = node.meta.get("nn_module_stack") or {}
            path = list(stack.values())[-1][0] if stack else ""
            yield node, str(path)


def _kinds(program: ExportedProgram) -> dict[str, str]:
    """Module path -> kind of its norm, as the graph computes it."""
    kinds = {path: str(node.args[-1]) for node, path in _calls(program, "normexport.running_norm")}
    batch_norms = _calls(program, "aten.batch_norm", "aten._native_batch_norm_legit_no_training")
    return {**kinds, **{path: "batchnorm" for _, path in batch_norms}}


def _as_in_graph(record: NormRecord, kinds: dict[str, str]) -> NormRecord:
    """A program carries its arithmetic, so nothing is ambiguous in it; what the graph names is the kind."""
    kind = kinds.get(record.path, record.kind)
    if record.dialect != "ambiguous":
        return replace(record, kind=kind)
    if kind == "batchnorm":
        return replace(record, kind=kind, dialect=kind, health=())
    return replace(record, dialect="graph", health=())


def _live_norms(program: ExportedProgram) -> Iterator[NormRecord]:
    seen: set[str] = set()
    for node, path in _calls(program, "normexport.live_norm"):
        if path in seen:
            continue
        seen.add(path)
        arguments = {**dict(zip(_LIVE_SCHEMA, node.args, strict=False)), **node.kwargs}
        scope = Scope.of(bool(arguments["instance"]))
        x = node.args[0]
        channels = int(x.meta["val"].shape[1]) if isinstance(x, Node) else 0
        yield NormRecord(path, str(arguments["kind"]), "normexport", channels, scope.value)


def _notes(program: ExportedProgram, state: State) -> Iterator[str]:
    training = [path for node, path in _calls(program, "aten.batch_norm") if node.args[5] is True]
    if training:
        yield f"exported in training mode: {', '.join(training[:3])} take statistics from the batch"
    half = {value.dtype for value in state.tensors.values()} & torch_dtypes(HALVES)
    for dtype in sorted(half, key=str):
        yield f"the program computes in {str(dtype).removeprefix('torch.')}"
