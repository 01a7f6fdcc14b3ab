"""Exported programs: loaded without code, and their norms found in state and graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from normexport.checkpoint.dialect import Dialect
from normexport.checkpoint.inspect_state import AMBIGUOUS, inspect_state
from normexport.checkpoint.program_part import class_of, module_path, part_of
from normexport.checkpoint.program_quantisers import with_our_quantisers
from normexport.checkpoint.pt2 import open_program
from normexport.checkpoint.recognise import Stored, stored_norms
from normexport.checkpoint.records import UNKNOWN, Checkpoint, NormRecord
from normexport.checkpoint.replace_norms import computes, kind_in_name, likeliest, record_of
from normexport.checkpoint.state import State
from normexport.dtypes import HALVES, torch_dtypes
from normexport.norms import Scope

#: The dialect of norms whose arithmetic the program has, and no dialect.
_GRAPH = "graph"
#: Programs of versions up to 0.2 lack the last one.
_LIVE_SCHEMA = ("x", "scale", "bias", "kind", "instance", "epsilon", "correction", "k", "chunks", "num_groups")


def load_program(path: Path, dialect: Dialect | None, trust: bool) -> Checkpoint:
    """Load `path`, an archive of `torch.export.save`.

    Raises:
        CheckpointError: it would run code and `trust` is not given, can't be read, or holds NaN.
    """
    return checkpoint_of_program(open_program(path, trust), path, dialect)


def checkpoint_of_program(program: ExportedProgram, path: Path, dialect: Dialect | None = None) -> Checkpoint:
    """A program, and what its state and graph say of its norms; `path` names it.

    Raises:
        CheckpointError: it holds NaN.
    """
    program, decided = with_our_quantisers(program)
    state, live = State.of({**program.state_dict, **_constants(program)}), tuple(_live_norms(program))
    norms, weights = inspect_state(state, dialect)
    kinds = _kinds(program)
    foreign = {each.path: each for each in stored_norms(state) if each.path not in kinds}
    stored = [
        _as_computed(program, foreign[record.path], record) if record.path in foreign else _as_in_graph(record, kinds)
        for record in norms
    ]
    notes = (*_notes(program, state), *decided)
    return Checkpoint(path, "program", None, program, (*stored, *live), weights, notes)


def _constants(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Buffers that are not persistent are kept among the constants."""
    return {name: value for name, value in program.constants.items() if isinstance(value, torch.Tensor)}


def _calls(program: ExportedProgram, *names: str) -> Iterator[tuple[Node, str]]:
    """Nodes of these operators, each with its module path."""
    for node in program.graph.nodes:
        target = str(node.target)
        if node.op == "call_function" and target.startswith(tuple(f"{name}." for name in names)):
            yield node, module_path(node)


def _kinds(program: ExportedProgram) -> dict[str, str]:
    """Module path -> kind of its norm, as the graph computes it."""
    kinds = {path: str(node.args[-1]) for node, path in _calls(program, "normexport.running_norm")}
    batch_norms = _calls(program, "aten.batch_norm", "aten._native_batch_norm_legit_no_training")
    return {**kinds, **{path: "batchnorm" for _, path in batch_norms}}


def _as_in_graph(record: NormRecord, kinds: dict[str, str]) -> NormRecord:
    """A program carries its arithmetic, so nothing is ambiguous in it; what the graph names is the kind."""
    kind = kinds[record.path]
    if record.dialect != AMBIGUOUS:
        return replace(record, kind=kind)
    return replace(record, kind=kind, dialect=kind if kind == "batchnorm" else _GRAPH, health=())


def _as_computed(program: ExportedProgram, stored: Stored, record: NormRecord) -> NormRecord:
    """A norm in ordinary operators: the reading that its part of the program computes, "graph" where that is none."""
    part, name = part_of(program, record.path), class_of(program, record.path)
    unread = replace(record, kind=UNKNOWN, dialect=_GRAPH, health=(), class_name=name)
    if part is None:
        return record if len(stored.fitting()) == 1 else unread
    for eps in (stored.eps, *part.small_numbers()):
        fitting = [each for each in stored.fitting() if computes(part, stored, each, eps)]
        if fitting:
            dialect = likeliest(fitting, name, None)
            kind = dialect.kind if dialect.kind != UNKNOWN else kind_in_name(name)
            found = record_of(stored, dialect, dialect.decode(stored.arrays(), eps), kind)
            return replace(found, class_name=name) if kind == UNKNOWN else found
    return unread


def _live_norms(program: ExportedProgram) -> Iterator[NormRecord]:
    seen: set[str] = set()
    for node, path in _calls(program, "normexport.live_norm"):
        if path in seen:
            continue
        seen.add(path)
        arguments: dict[str, Any] = {**dict(zip(_LIVE_SCHEMA, node.args, strict=False)), **node.kwargs}
        scope = Scope.of(bool(arguments["instance"]), int(arguments.get("num_groups", 0)))
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
