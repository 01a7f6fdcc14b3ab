"""The two questions people ask: does this ONNX file compute what the torch model does, and what that ONNX file does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import onnx_ir as ir

from normexport.errors import FoldError, UsageError
from normexport.graphs.node_metadata import module_path
from normexport.onnx_export import InputSpec, Layer, narrow
from normexport.proof.check import check
from normexport.proof.doubts.random_numbers import random_nodes, without_repeats
from normexport.proof.inputs.batches import Batch, standard_batches
from normexport.proof.inputs.declared import declared_by_file, input_specs, require_tensor_outputs
from normexport.proof.inputs.ladder import choose_batches
from normexport.proof.not_compared import not_compared
from normexport.proof.room import require_room
from normexport.proof.sizes_that_run import require_lengths, require_sizes
from normexport.proof.ties import SEEDS, has_quantisers
from normexport.proof.verdict import ParityReport
from normexport.runtime import Array, Float64Runtime, OnnxRuntime, Opener, Runtime
from normexport.runtime.elsewhere import RuntimeElsewhere
from normexport.runtime.exact import Reference
from normexport.runtime.float64.registry import Endless
from normexport.workers import Where

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

JITTER = 20  # seed of the baseline's moved weights; any will do, the same one each time


def check_model(
    model: Reference,
    candidate: ir.Model,
    layers: Sequence[Layer],
    inputs: Sequence[InputSpec],
    *,
    data: Mapping[str, Array] | None = None,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    unproven: Sequence[str] = (),
    on: Opener = OnnxRuntime,
    graph: ir.Model | None = None,
) -> ParityReport:
    """Judge an ONNX model, on ONNX Runtime, against the torch model or the ONNX model it came from.

    Args:
        model: the float64 reference and the float32 baseline are both made from it; it is not changed.
        candidate: its inputs are named as `inputs`, its outputs in torch's order, or named as those of an ONNX model.
        layers: module boundaries in execution order, as the export gave them; those folded away are listed as such.
        inputs: names, shapes and types, in the order of torch's positional arguments.
        data: real inputs (samples, *shape) by name, beside the random ones.
        sizes: batch sizes, default `normexport.proof.inputs.batches.SIZES`. Ignored where the batch is fixed.
        seed: of the random inputs.
        unproven: what stands between the user's model and `model`, in words. What makes it no function of its inputs
            (numbers that it draws, buffers that it changes) is found here.
        on: the runtime that the candidate is judged on.
        graph: what a torch model computes, as a graph, where the candidate was not made from just that: what only one
            of them asks of numbers that no input gives is a doubt then, and not only a note.
    """
    if isinstance(model, ir.Model):
        report = compare(model, candidate, inputs=inputs, data=data, sizes=sizes, seed=seed, layers=layers, on=on)
        return replace(report, unproven=without_repeats(*unproven, *report.unproven))
    from normexport.proof.doubts.steady import doubts_of
    from normexport.runtime import TorchRuntime

    precision = precision_of_torch(model)
    outputs = [str(value.name) for value in candidate.graph.outputs]

    def torch_runtime(dtype: str, jitter: int | None = None) -> Runtime:
        return TorchRuntime(model, inputs, outputs, dtype, layers, jitter)

    require_room(candidate, standard_batches(inputs, data, sizes=sizes))  # of these sizes, whatever the numbers
    tried = choose_batches(
        inputs,
        data,
        sizes=sizes,
        seed=seed,
        graph=candidate,
        own=lambda: torch_runtime(precision),
        exact=lambda: torch_runtime("float64"),
        compared=(candidate,) if graph is None else (graph, candidate),
    )
    unseen = not_compared(candidate if graph is None else graph, candidate, tried.batches)
    report = check(
        lambda: torch_runtime("float64"),
        lambda: torch_runtime(precision, JITTER),
        lambda: on(candidate),
        tried.batches,
        layers,
        precision=precision,
        others=[partial(torch_runtime, precision, seed) for seed in SEEDS],
        ties=has_quantisers(candidate),
        unproven=without_repeats(
            *unproven,
            *doubts_of(model, inputs, outputs, precision, tried.batches),
            *random_nodes(candidate),
            *unseen.doubts,
        ),
    )
    notes = (*tried.notes, *_fixed_batch(inputs, tried.batches), *unseen.notes)
    return _with_notes(report, notes)


def precision_of_torch(model: nn.Module | ExportedProgram) -> str:
    """float16 where every weight is, else float32: the precision that the candidate is held to."""
    weights = [*model.parameters(), *model.buffers()]
    return "float16" if {str(w.dtype) for w in weights if w.is_floating_point()} == {"torch.float16"} else "float32"


def compare(
    first: ir.Model,
    second: ir.Model,
    *,
    inputs: Sequence[InputSpec] | None = None,
    data: Mapping[str, Array] | None = None,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    layers: Sequence[Layer] | None = None,
    on: Opener = OnnxRuntime,
    where: Where | None = None,
) -> ParityReport:
    """Judge the ONNX model `second` against `first`, both on ONNX Runtime, with `first` in float64 as the reference.

    The float64 reference is `Float64Runtime`; where it lacks an operator, `first` on ONNX Runtime in float32 stands
    in and a note says so.

    Args:
        inputs: needed only where the file leaves a size other than the batch open.
        layers: boundaries to compare beside the outputs; None: every value that both hold under one name.
        on: the runtime that `second` is judged on.
        where: which processes compute the outputs of the batches, each by one thread; None: this one, by all threads.

    Raises:
        UsageError: the inputs of the two differ, or have open sizes and `inputs` is not given; an output is no tensor.
        FoldError: a Loop goes on and on.
    """
    for model in (first, second):
        require_tensor_outputs(model)
    arrays = {name: array.shape for name, array in (data or {}).items()}
    specs = input_specs(first, inputs or (), arrays)
    theirs = [str(value.name) for value in second.graph.inputs if value.name not in second.graph.initializers]
    if sorted(theirs) != sorted(spec.name for spec in specs):
        wanted = ", ".join(spec.name for spec in specs)
        raise UsageError("parity", f"the inputs differ: {wanted} against {', '.join(theirs)}", "rename them")
    specs = narrow(specs, declared_by_file(second, specs))  # a size that it fixes is fixed for both
    planned = standard_batches(specs, data, sizes=sizes)  # of these sizes, whatever the numbers
    require_room(first, planned)
    require_room(second, planned)
    smallest = min(planned, key=lambda batch: batch.size)
    require_ends(first, smallest)
    require_ends(second, smallest)
    require_sizes(first, planned)
    require_lengths(first, specs)
    tried = choose_batches(
        specs,
        data,
        sizes=sizes,
        seed=seed,
        graph=first,
        own=lambda: OnnxRuntime(first),
        exact=lambda: Float64Runtime(first),
        compared=(first, second),
    )
    boundaries = common_values(first, second) if layers is None else layers
    opener = OnnxRuntime if where is None else partial(RuntimeElsewhere, where)
    unseen = not_compared(first, second, tried.batches, opener)
    notes = (*tried.notes, *_fixed_batch(specs, tried.batches), *unseen.notes)
    unproven = unseen.doubts
    try:
        report = _compare(first, second, tried.batches, boundaries, unproven, on, where, double=True)
    except (FoldError, UsageError) as error:  # not the reference's fault? then it is raised again
        report = _compare(first, second, tried.batches, boundaries, unproven, on, where, double=False)
        cause = error.cause.removeprefix("no float64 reference: ")
        notes = (*notes, f"no float64 reference, float32 on ONNX Runtime stands in: {cause}")
    return _with_notes(report, notes)


def require_ends(model: ir.Model, batch: Batch) -> None:
    """See a model with loops through to its end, where they are counted, before a runtime that counts nothing runs it.

    Raises:
        FoldError: a Loop goes on and on.
    """
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    if not any(node.op_type == "Loop" for graph in graphs for node in ir.traversal.RecursiveGraphIterator(graph)):
        return
    try:
        Float64Runtime(model).run(batch.feeds)
    except (FoldError, UsageError) as error:  # others are told where the model is compared
        if isinstance(error.__cause__, Endless):
            raise


def common_values(first: ir.Model, second: ir.Model) -> tuple[Layer, ...]:
    """The values that both graphs compute under one name, in the first's order.

    A name means one tensor: rewrites that change what a value holds give it a new name.
    """
    theirs = {value.name for node in second.graph for value in node.outputs}
    return tuple(
        Layer(module_path(node) or node.name or str(value.name), 0, node.op_type, str(value.name))
        for node in first.graph
        for value in node.outputs
        if value.name and value.name in theirs
    )


def _compare(
    first: ir.Model,
    second: ir.Model,
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    unproven: Sequence[str],
    on: Opener,
    where: Where | None,
    *,
    double: bool,
) -> ParityReport:
    def reference() -> Runtime:
        if where is not None:
            return RuntimeElsewhere(where, first, double=double)
        return Float64Runtime(first) if double else OnnxRuntime(first)

    def baseline(seed: int = JITTER) -> Runtime:
        return OnnxRuntime(first, jitter=seed) if where is None else RuntimeElsewhere(where, first, jitter=seed)

    def candidate() -> Runtime:
        return on(second) if where is None else RuntimeElsewhere(where, second)

    fixed = fixed_outputs(first)
    unproven = (*random_nodes(first), *random_nodes(second), *unproven)
    others = [partial(baseline, seed) for seed in SEEDS]
    return check(
        reference,
        baseline,
        candidate,
        batches,
        layers,
        fixed=fixed,
        unproven=unproven,
        others=others,
        ties=has_quantisers(second),
    )


def fixed_outputs(model: ir.Model) -> frozenset[str]:
    """The outputs of an ONNX model that follow from no input: what its graph computes from constants alone."""
    varies = {value for value in model.graph.inputs if value.name not in model.graph.initializers}
    for node in model.graph:
        # A subgraph may read an input without naming it among the node's; an operator without inputs may draw numbers.
        constant = node.op_type in ("Constant", "ConstantOfShape", "Range") or any(node.inputs)
        inside = any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in _set(node))
        if inside or not constant or any(value in varies for value in node.inputs):
            varies.update(node.outputs)
    return frozenset(str(value.name) for value in model.graph.outputs if value not in varies)


def _set(node: ir.Node) -> list[ir.Attr]:
    return [attribute for attribute in node.attributes.values() if isinstance(attribute, ir.Attr)]


def _fixed_batch(inputs: Sequence[InputSpec], batches: Sequence[Batch]) -> tuple[str, ...]:
    if any(spec.batched for spec in inputs) or not batches:
        return ()
    return ("the model fixes its batch size: parity was checked at that size only",)


def _with_notes(report: ParityReport, notes: tuple[str, ...]) -> ParityReport:
    return replace(report, notes=(*notes, *report.notes))
