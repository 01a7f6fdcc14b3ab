"""torch.nn.Module -> ExportedProgram -> ONNX, quietly, with failures in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir
import torch
import torch.utils._pytree as pytree
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind

from normexport import norms
from normexport.errors import ExportError, NormExportError, UsageError
from normexport.garbage import without_collection
from normexport.io.quiet import silence
from normexport.onnx_export.calls import call_of, called_in_a_row
from normexport.onnx_export.inputs import InputSpec
from normexport.onnx_export.recurrent import recurrent_layers_whole
from normexport.onnx_export.translate import require_inference, require_lstm_forms, translation_table
from normexport.text import first_line

#: Batch size the graph is traced at: 0 and 1 would be taken for constants.
TRACE_BATCH = 2

_BY_A_STEP = "--input H=32..512:32"


def program_of(model: nn.Module, inputs: Sequence[InputSpec], place: str = "model") -> ExportedProgram:
    """Trace `model` (eval mode, float32) at these inputs, the batch of `batched` ones free; `place` names it in errors.

    Raises:
        UsageError: the model fails on such inputs.
        ExportError: it needs Python control flow, or fixes the batch size.
    """
    if model.training:
        raise ExportError(place, "is in training mode", "call model.eval() before exporting")
    try:
        samples = tuple(sample_of(spec) for spec in inputs)
    except (RuntimeError, MemoryError) as error:  # how torch and Python say so
        shapes = ", ".join(f"{spec.name} {list(spec.sized(TRACE_BATCH))}" for spec in inputs)
        raise UsageError(place, f"this machine has not the memory for {shapes}", "give smaller sizes") from error
    call_of(model, inputs, place)  # which refuses what is no call, in its own words
    try:
        program = _traced(model, inputs, samples, place)
    except Exception as error:  # of the model's own code, and of a tracer with many kinds
        raise _explain_failure(model, inputs, samples, error, place) from error
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(value, FakeTensor):  # the trace has left it behind, without numbers
            raise ExportError(
                place, f"makes {name} in its forward", "make it in its constructor, or run it once before"
            )
    return program


def _free_sizes(inputs: Sequence[InputSpec]) -> tuple[dict[int, Any] | None, ...]:
    """Per input its free sizes as torch declares them, by axis of the whole shape; None where there are none."""
    batch = torch.export.Dim("batch")
    symbols: dict[str, Any] = {}
    found = []
    for spec in inputs:
        free: dict[int, Any] = dict.fromkeys(spec.axes, batch) if spec.batched else {}
        ranges = {each.symbol: each.range for each in spec.open}
        for axis, symbol in enumerate(spec.declared()):
            if not isinstance(symbol, str):
                continue
            sizes = ranges[symbol]
            if symbol not in symbols:
                simple = (sizes.multiple, sizes.plus) == (1, 0)
                name = symbol if simple else f"_{symbol}"
                symbols[symbol] = torch.export.Dim(name, min=sizes.least, max=sizes.most)
            free[axis] = symbols[symbol]
            if sizes.multiple != 1:
                free[axis] = sizes.multiple * free[axis]
            if sizes.plus:
                free[axis] = free[axis] + sizes.plus
        found.append(free or None)
    return tuple(found)


def _traced(
    model: nn.Module, inputs: Sequence[InputSpec], samples: Sequence[torch.Tensor], place: str
) -> ExportedProgram:
    with torch.no_grad(), _quiet(), called_in_a_row(model, inputs, place):
        return torch.export.export(model, tuple(samples), dynamic_shapes=_free_sizes(inputs), strict=False)


def _explain_failure(
    model: nn.Module,
    inputs: Sequence[InputSpec],
    samples: tuple[torch.Tensor, ...],
    error: Exception,
    place: str,
) -> NormExportError:
    """Whether the model fails on such inputs anyway, or only when it is traced, or traced with a free batch."""
    try:
        with torch.no_grad(), _quiet():
            arguments, named = call_of(model, inputs, place).arguments(samples)
            model(*arguments, **named)
    except Exception as plain:  # a model's code can raise anything
        if _can_be_traced_alone(model, inputs):
            cause = f"fails on a batch of {TRACE_BATCH}: {first_line(plain)}"
            return ExportError(place, cause, "fix the batch: --batch 1")
        shapes = ", ".join(f"{spec.name} {list(spec.sized(TRACE_BATCH))} {spec.dtype}" for spec in inputs)
        remedy = "check --input" + (f"; sizes that go by a step are {_BY_A_STEP}" if _open(inputs) else "")
        return UsageError(place, f"fails on {shapes}: {first_line(plain)}", remedy)
    remedy = "make forward free of data-dependent Python"
    if _can_be_traced_alone(model, inputs):
        remedy = "make forward free of fixed batch sizes, or fix the batch: --batch 1"
    if symbols := _open(inputs):
        remedy = f"give {' and '.join(symbols)} as numbers, or within what the network takes: {_BY_A_STEP}"
    return ExportError(place, f"can't be traced: {first_line(error)}", remedy)


def _can_be_traced_alone(model: nn.Module, inputs: Sequence[InputSpec]) -> bool:
    """Whether a batch of 1, fixed, is what it takes: `export` of the same inputs would go through."""
    fixed = [spec.fixed(1) for spec in inputs]
    if not any(spec.batched and spec.batch.holds(1) for spec in inputs):
        return False
    try:
        _traced(model, fixed, [sample_of(spec) for spec in fixed], "")
    except Exception:  # of any kind: then it is no remedy
        return False
    return True


def _open(inputs: Sequence[InputSpec]) -> list[str]:
    return list(dict.fromkeys(each.symbol for spec in inputs for each in spec.open))


def onnx_of(
    program: ExportedProgram, input_names: Sequence[str], place: str = "model", opset: int = norms.OPSET
) -> ir.Model:
    """Translate a traced program to ONNX (opset 18 to 20, IR 10), norms as nodes of domain `normexport`, untidied.

    Raises:
        ExportError: an operator has no ONNX translation, or an output is neither a tensor nor None.
    """
    require_inference(program)
    require_lstm_forms(program, place)
    _require_tensors(program, place)
    try:
        with torch.no_grad(), _quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                optimize=False,
                verbose=False,
                input_names=list(input_names),
                custom_translation_table=translation_table(),
            )
    except Exception as error:  # of torch.onnx, of each translation and of the library below it
        cause = error.__cause__ or error
        operator = re.search(r"target=torch\.ops\.([\w.]+)", str(cause))
        culprit = f"operator {operator[1]}" if operator else first_line(cause)
        raise ExportError(place, f"has no ONNX form: {culprit}", "replace that operator in the model") from error
    assert exported is not None
    return exported.model


def output_names(program: ExportedProgram) -> list[str]:
    """Names of the flattened outputs: "output" for a single tensor, "output_0", ... for a tuple, else dict keys.

    Nested structures join their keys and positions by "_": {"boxes": (a, b)} gives "boxes_0" and "boxes_1".
    None has no place in an ONNX file and gets no name.
    """
    spec = program.call_spec.out_spec
    assert spec is not None
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(list(range(spec.num_leaves)), spec))
    leaves = program.graph_signature.user_outputs
    return [_word_for(path) for (path, _), leaf in zip(paths, leaves, strict=True) if leaf is not None]


def names_of_leaves(returned: Any) -> dict[str, Any]:
    """What a network returned in plain dicts and lists, by the names that its file's outputs have."""
    paths, _ = pytree.tree_flatten_with_path(returned)
    return {_word_for(path): leaf for path, leaf in paths if leaf is not None}


def _word_for(path: Sequence[Any]) -> str:
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", "")))) for key in path]
    return "_".join(parts if parts and not parts[0].isdigit() else ["output", *parts])


def _require_tensors(program: ExportedProgram, place: str) -> None:
    """Refuse outputs that have no form in ONNX: complex numbers; numbers and words that are the same at every run."""
    outputs = [spec.arg for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    constants = [arg.value for arg in outputs if isinstance(arg, ConstantArgument)]
    for value in constants:
        if value is not None:
            raise ExportError(place, f"returns {value!r}, which is not a tensor", "return tensors only")
    for node in program.graph.output_node().args[0]:
        value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
        if isinstance(value, torch.Tensor) and value.is_complex():
            cause = f"returns complex numbers ({node.name}), which no ONNX runtime takes"
            raise ExportError(place, cause, "return torch.view_as_real of them")
    if len(constants) == len(outputs):
        raise ExportError(place, "returns no tensor", "return at least one")


def sample_of(spec: InputSpec) -> torch.Tensor:
    """An input to trace with."""
    dtype: Any = getattr(torch, spec.dtype)
    shape = spec.sized(TRACE_BATCH)
    # Zeros are valid indices, masks and images alike; values do not matter to a trace.
    return torch.zeros(shape, dtype=dtype)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter and the model print out of the user's terminal; failures still raise."""
    with without_collection(), silence(), recurrent_layers_whole():
        yield
