"""What a verb can be given: a checkpoint, an ONNX model, a plan, or the path of one; and what each of them reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, TypeVar, Union

import onnx
import onnx_ir as ir

from normexport import checkpoint as checkpoints
from normexport import onnx_export, proof
from normexport.checkpoint import Checkpoint
from normexport.engine import read_manifest
from normexport.engine.plan_inputs import declared_by_plan
from normexport.errors import UsageError
from normexport.io.data_sources import LABELS, Kind, source_at
from normexport.io.numpy_files import opened_arrays
from normexport.io.onnx_model import opened_model
from normexport.io.opening import File
from normexport.onnx_export import DTYPES, Declared, InputSpec, parse_inputs
from normexport.onnx_export.inputs import default_names
from normexport.proof.inputs.data import told_by
from normexport.proof.inputs.folders import open_folder
from normexport.proof.torch_candidate import count_outputs
from normexport.runtime import Array, OnnxRuntime, Opener, OpenVinoRuntime, Runtime
from normexport.runtime.guarded import in_child
from normexport.runtime.openvino_runtime import require_openvino
from normexport.runtime.tensorrt_runtime import Plan
from normexport.verbs.config import RUNTIMES, require_runtime

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

T = TypeVar("T")

Side: TypeAlias = Checkpoint | ir.Model | Plan

#: A network of PyTorch, in a file or in memory.
TorchSource: TypeAlias = Union[Checkpoint, "torch.nn.Module", "torch.export.ExportedProgram", str, Path]
#: A network, in a file or in memory.
NetworkSource: TypeAlias = TorchSource | ir.Model | onnx.ModelProto
Inputs: TypeAlias = Sequence[str | InputSpec]


def is_onnx(path: str | Path) -> bool:
    """Whether a path is that of an ONNX file: its name ends in .onnx."""
    return Path(path).suffix.lower() == ".onnx"


def is_of_torch(source: object) -> TypeGuard[nn.Module | ExportedProgram]:
    """Whether it is a module or an exported program; who has one has imported torch."""
    loaded = sys.modules.get("torch")
    if loaded is None:
        return False
    return isinstance(source, loaded.nn.Module) or type(source).__name__ == "ExportedProgram"


def opened_checkpoint(source: TorchSource) -> Checkpoint:
    """A network of PyTorch with one meaning, whether it is in a file or in memory.

    Raises:
        CheckpointError, UsageError: see `normexport.load`.
    """
    if isinstance(source, Checkpoint):
        return source
    if is_of_torch(source):
        return checkpoints.checkpoint_of(source)
    if not isinstance(source, str | Path):
        remedy = "give a path, a module, an exported program or an ONNX model"
        raise UsageError(type(source).__name__, "is no network", remedy)
    return checkpoints.load(source)


def open_subject(source: NetworkSource, weights_under: str | Path | None = None) -> Checkpoint | ir.Model:
    """Opened, where it is a path; external data of an ONNX file may lie under `weights_under` too."""
    if isinstance(source, ir.Model | onnx.ModelProto) or (isinstance(source, str | Path) and is_onnx(source)):
        return opened_model(source, weights_under)
    return opened_checkpoint(source)


def torch_of(side: Checkpoint) -> nn.Module | ExportedProgram:
    """The torch model of a checkpoint.

    Raises:
        UsageError: it holds weights alone.
    """
    model = side.program if side.program is not None else side.model
    if model is None:
        raise UsageError(str(side.path), "holds weights but no model", "name its code: --model package.module:factory")
    return model


def refuse_lost_state(side: Checkpoint, specs: Sequence[InputSpec], arrays: Mapping[str, Array] | None = None) -> None:
    """Refuse a checkpoint whose file lacks numbers that its model reads (`proof.doubts.lost_state`)."""
    from normexport.proof.doubts.lost_state import require_no_lost_state  # needs torch, which ONNX files do not

    require_no_lost_state(side, specs, arrays)


def doubts_of_layers(
    side: Checkpoint, specs: Sequence[InputSpec], arrays: Mapping[str, Array] | None = None
) -> tuple[str, ...]:
    """What it costs that layers of ours stand for quantising ones of a checkpoint (`proof.doubts.substituted`)."""
    from normexport.proof.doubts.substituted import substitution_doubts  # needs torch, which ONNX files do not

    return substitution_doubts(side, specs, arrays)


def declared_inputs(side: Side, given: Sequence[InputSpec] = ()) -> tuple[Declared, ...] | None:
    """What it says of its inputs; None where it says nothing, as a checkpoint of weights and code does.

    Args:
        given: tell how many axes an input has whose file does not.

    Raises:
        UsageError: an input is no tensor of numbers.
    """
    if isinstance(side, Plan):
        return declared_by_plan(read_manifest(side.path))
    if isinstance(side, ir.Model):
        return proof.declared_by_file(side, given)
    return onnx_export.declared_by_program(side.program) if side.program is not None else None


def file_inputs(model: ir.Model, given: Sequence[InputSpec], data: str | Path | None) -> tuple[InputSpec, ...]:
    """What an ONNX model reads, sizes that it leaves open told by `given` or by the data, or open for a folder.

    Raises:
        UsageError: see `proof.input_specs`.
    """
    given, shapes = _told(proof.declared_by_file(model, given), given, data)
    return proof.input_specs(model, given, shapes)


def plan_inputs_for(plan: Plan, given: Sequence[InputSpec], data: str | Path) -> tuple[InputSpec, ...]:
    """What a plan reads, told in the same way.

    Raises:
        UsageError: a size stays open, or a shape does not fit.
    """
    declared = declared_by_plan(read_manifest(plan.path))
    given, shapes = _told(declared, given, data)
    return onnx_export.close_sizes(declared, given, shapes)


def _told(
    declared: Sequence[Declared], given: Sequence[InputSpec], data: str | Path | None
) -> tuple[Sequence[InputSpec], dict[str, tuple[int, ...]]]:
    """What tells open sizes: `given`, and the shape of data; samples of a folder that share none leave all open."""
    if data is None:
        return given, {}
    shapes = proof.shapes_in(data, [each.name for each in declared])
    told = any(len(shapes.get(each.name, ())) == len(each.sizes) for each in declared)
    is_alike = source_at(data).kind is Kind.ARRAYS  # all samples of such files have one shape
    return given or (() if told or is_alike else onnx_export.left_open(declared)), shapes


def agreed_inputs(sides: Sequence[Side], inputs: Inputs, data: str | Path | None = None) -> tuple[InputSpec, ...]:
    """What all sides read, under the names of the first that says it; empty where nothing tells.

    Args:
        inputs: shapes of all the inputs, or of those whose sizes a file leaves open.
        data: a file or folder of arrays, whose shapes stand for sizes that nothing else tells; those of a folder of
            images, or of several shapes, stay open.

    Raises:
        UsageError: the sides contradict each other or `inputs`, or a size stays open.
    """
    given = specs_of(inputs)
    specs: tuple[InputSpec, ...] = ()
    for side in sides:
        declared = declared_inputs(side, specs or given)
        if declared is None:
            continue
        if specs:
            specs = onnx_export.narrow(specs, declared)
            continue
        told, arrays = _told(declared, given, data)
        if isinstance(side, Checkpoint):
            assert side.program is not None
            specs = onnx_export.inputs_of_program(side.program, told, arrays)
        else:
            specs = onnx_export.close_sizes(declared, told, arrays)
    return specs or _as_forward_calls(sides, given or (inputs_in(data) if data is not None else ()))


def _as_forward_calls(sides: Sequence[Side], given: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Inputs without names by forward's parameters, where the modules among the sides call them alike.

    Those of one would be bound by name in the other, whose forward may take the same names in another order.
    """
    models = [side.model for side in sides if isinstance(side, Checkpoint) and side.model is not None]
    calls = [onnx_export.named_by(model, given) for model in models] if given else []
    return calls[0] if calls and all(each == calls[0] for each in calls) else given


def inputs_in(data: str | Path) -> tuple[InputSpec, ...]:
    """What the arrays of a file are samples of; labels beside them are none. Images and tables tell nothing.

    Raises:
        UsageError: unreadable file, or one of text; a folder of arrays of several shapes.
    """
    source = source_at(data)
    if source.kind is Kind.TABLES:
        return ()
    if not source.by_file:
        data = source.files[0]
        with opened_arrays(data) as stored:
            names = [name for name in stored if name not in LABELS] or list(stored)
            kinds = [(name, stored[name].shape, stored[name].dtype.name) for name in names]
        return tuple(
            _spec_of(data, name or unnamed, shape[1:], kind, bool(shape), bool(name))
            for unnamed, (name, shape, kind) in zip(default_names(len(kinds)), kinds, strict=True)
        )
    files = open_folder(data).arrays
    if not files:
        return ()
    told = told_by(files, _shape_and_type)
    shapes = dict.fromkeys(shape for shape, _ in told)
    if len(shapes) > 1:
        words = " and ".join(map(str, [*shapes][:2]))
        cause = f"holds samples of shapes {words}, and nothing says which sizes the model leaves open"
        raise UsageError(str(data), cause, "say it, as --input 3xHxW does")
    return (_spec_of(files[0], default_names(1)[0], *told[0], True, False),)


def _shape_and_type(file: File) -> tuple[tuple[int, ...], str]:
    with opened_arrays(file) as stored:
        array = next(iter(stored.values()))
        return array.shape, array.dtype.name


def _spec_of(file: File, name: str, shape: tuple[int, ...], kind: str, batched: bool, named: bool) -> InputSpec:
    dtype = "float32" if kind == "float64" else kind  # what numpy makes of plain numbers
    if dtype not in DTYPES:
        raise UsageError(f"{file}: array {name}", f"has dtype {kind}", f"give one of {', '.join(DTYPES)}")
    return InputSpec(name, shape, dtype, batched, named=named)


def export_inputs(checkpoint: Checkpoint, inputs: Inputs, data: str | Path | None) -> tuple[InputSpec, ...]:
    """What to export a checkpoint for: `inputs`, and what they leave open from the arrays of a file.

    Raises:
        UsageError: a shape contradicts the program's own, or a size stays open.
    """
    given = specs_of(inputs)
    if data is None or given:
        return given
    if checkpoint.program is not None:
        return agreed_inputs([checkpoint], (), data)
    return inputs_in(data)


def specs_of(inputs: Inputs) -> tuple[InputSpec, ...]:
    """Specs from specs or from their texts."""
    if all(isinstance(item, InputSpec) for item in inputs):
        return tuple(item for item in inputs if isinstance(item, InputSpec))
    return parse_inputs([str(item) for item in inputs])


def runtime_of(
    side: Side,
    specs: Sequence[InputSpec],
    outputs: Sequence[str] | None = None,
    layers: Sequence[onnx_export.Layer] = (),
    on: Opener = OnnxRuntime,
) -> Runtime:
    """Ready to run: torch in float32, an ONNX model on ONNX Runtime, a plan on this machine's GPU.

    Args:
        outputs: names for what a torch model returns; None: output_0 and so on.
        layers: module boundaries that a torch model can give.
        on: the runtime of an ONNX model.

    Raises:
        UsageError: this machine has not the memory that one sample takes.
    """
    if isinstance(side, Plan):
        return side.runtime()
    if isinstance(side, ir.Model):
        proof.require_room(side, ())
        return on(side)
    from normexport.runtime.torch_runtime import TorchRuntime

    model = torch_of(side)
    names = outputs if outputs is not None else [f"output_{i}" for i in range(count_outputs(model, specs))]
    return TorchRuntime(model, specs, names, layers=layers)


def opener_of(runtime: str) -> Opener:
    """What opens ONNX models, by the word for it; that it is installed is checked, and nothing is imported.

    Raises:
        UsageError: no such runtime.
        MissingComponent: it is not installed.
    """
    require_runtime(runtime)
    if runtime == RUNTIMES[0]:
        return OnnxRuntime
    require_openvino()
    return OpenVinoRuntime


def require_onnx_for(runtime: str, side: Side) -> None:
    """Refuse a runtime of ONNX models for what is none.

    Raises:
        UsageError: it is a checkpoint or a plan.
    """
    if runtime != RUNTIMES[0] and not isinstance(side, ir.Model):
        raise UsageError(f"--runtime {runtime}", "means nothing here: it is for an ONNX file", "leave it out")


def guarded_if_files(work: Callable[[], T], *sides: object) -> T:
    """Work on ONNX files alone is done where a signal can't end this process; torch does not stand being copied."""
    files = [side for side in sides if isinstance(side, (str, Path)) and is_onnx(side)]
    return in_child(work, " or ".join(dict.fromkeys(map(str, files)))) if len(files) == len(sides) else work()
