"""The verbs: each runs the stages in order, top to bottom, and returns a frozen result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch import nn
from torch.export import ExportedProgram

from normexport import onnx_export, parity
from normexport.checkpoint import Checkpoint, load
from normexport.engine import EngineConfig, build_engine, check_engine, read_manifest
from normexport.errors import UsageError
from normexport.files import check_writable, replacing, staging
from normexport.folding import FOLDING, fold
from normexport.onnx_export import Exported, InputSpec, parse_inputs
from normexport.onnx_files import open_onnx, save_onnx
from normexport.passes import FoldResult
from normexport.passes import fold as fold_model
from normexport.plans import Plan, check_plan, plan_inputs
from normexport.report import Conversion, Inspection, Operators

__all__ = ["ConvertConfig", "check", "convert", "export", "fold", "inspect", "load"]

Inputs = Sequence[str | InputSpec]
OnStage = Callable[[str], None]


@dataclass(frozen=True)
class ConvertConfig:
    """How to convert.

    Attributes:
        fold: fold norms; False leaves them as operators with bodies.
        data: .npz file of real inputs, judged beside the random ones.
        batches: batch sizes at which parity is judged; None: 1, 2 and 7, fewer for large inputs.
        engine: build a TensorRT plan of the file too, once parity has passed.
    """

    fold: bool = True
    data: str | Path | None = None
    batches: tuple[int, ...] | None = None
    engine: EngineConfig | None = None


def export(
    source: Checkpoint | nn.Module | ExportedProgram | str | Path, inputs: Inputs = (), output: str | Path | None = None
) -> Exported:
    """Export to one ONNX model, norms as operators with bodies; `output` writes it with its layer map.

    Args:
        source: a checkpoint (or the path of one), a module in eval mode, or an exported program.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; an exported program knows its own.

    Raises:
        CheckpointError, ExportError, UsageError: see `load` and `onnx_export.export`.
    """
    if isinstance(source, (str, Path)):
        source = load(source)
    exported = onnx_export.export(source, _specs(inputs))
    if output is not None:
        _write_model(exported.model, exported.layers, Path(output))
    return exported


def convert(
    source: Checkpoint | Callable[[], Checkpoint] | str | Path,
    output: str | Path,
    inputs: Inputs = (),
    config: ConvertConfig = ConvertConfig(),
    on_stage: OnStage | None = None,
) -> Conversion:
    """Checkpoint -> folded ONNX file, proven against the checkpoint in float64.

    Writes `model.onnx`, `model.layers.json` and `report.json`, and with `engine` `model.plan` and its manifest, into
    the folder `output`, together and only when all stages are through. A model that fails parity is written too,
    with `passed` false in its report and without a plan.

    Args:
        source: a checkpoint, the path of one that needs no further options, or a function that loads one.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; an exported program knows its own.
        on_stage: called with the name of each stage as it begins.

    Raises:
        NormExportError: of whatever stage failed; nothing is written then.
    """
    output = Path(output)
    check_writable(output)
    if config.engine is not None:
        check_engine(config.engine)
    clock = _Clock(on_stage or (lambda stage: None))
    if isinstance(source, nn.Module):
        raise UsageError(type(source).__name__, "is a module, not a checkpoint", "save it with torch.save first")
    with clock.stage("load"):
        if callable(source):
            source = source()
        checkpoint = source if isinstance(source, Checkpoint) else load(source)
    with clock.stage("export"):
        exported = onnx_export.export(checkpoint, _specs(inputs))
    data = parity.load_arrays(config.data, exported.inputs) if config.data is not None else None
    with clock.stage("fold"):
        folded = fold_model(exported.model, FOLDING) if config.fold else FoldResult(exported.model, (), (), False)
        operators = Operators.of(exported.model, folded.model)
    with staging(output) as folder:
        with clock.stage("write"):
            model = folder / "model.onnx"
            _write_model(folded.model, exported.layers, model)
        layers, specs, norms, warnings = exported.layers, exported.inputs, folded.norms, folded.warnings
        del exported, folded  # the file is what is judged, and the float32 copies in memory are not small
        with clock.stage("parity"):
            reference = checkpoint.program if checkpoint.program is not None else checkpoint.model
            assert reference is not None  # export refuses a checkpoint without a model
            report = parity.check_model(reference, open_onnx(model), layers, specs, data=data, sizes=config.batches)
        engine = None
        if config.engine is not None and report.passed:
            with clock.stage("engine"):
                engine = build_engine(model, folder / "model.plan", config.engine)
        conversion = Conversion(
            path=checkpoint.path,
            source=checkpoint.source,
            inputs=specs,
            norms=checkpoint.norms,
            weight_norms=checkpoint.weight_norms,
            notes=checkpoint.notes,
            outcomes=norms,
            warnings=warnings,
            operators=operators,
            parity=report,
            files=(*(output / name for name in _written(folder)), output / "report.json"),
            seconds=clock.seconds,
            engine=engine,
        )
        (folder / "report.json").write_text(json.dumps(conversion.as_dict(), indent=1, allow_nan=False) + "\n")
    return conversion


def check(
    reference: Checkpoint | ir.Model | str | Path,
    candidate: Checkpoint | ir.Model | Plan | str | Path,
    inputs: Inputs = (),
    *,
    data: str | Path | None = None,
    layers: bool = False,
    batches: tuple[int, ...] | None = None,
) -> parity.ParityReport:
    """Judge whether `candidate` computes what `reference` computes; each a checkpoint or an ONNX model or file.

    The candidate may also be a `normexport.plans.Plan`, on a GPU that it was built for; then outputs alone are judged.

    Args:
        inputs: shapes of one sample; needed only where no side says what it reads.
        data: .npz file of real inputs, judged beside the random ones.
        layers: judge every module boundary too (between ONNX files: every value both hold under one name).
        batches: batch sizes; None: 1, 2 and 7, fewer for large inputs.

    Raises:
        UsageError: the two read different inputs, or nothing says what they read.
    """
    if isinstance(candidate, Plan):
        return _check_plan(_side(reference), candidate, _specs(inputs), data, batches)
    first, second = _side(reference), _side(candidate)
    # ONNX sides first: they bind by name, torch by position.
    sides = sorted((first, second), key=lambda side: not isinstance(side, ir.Model))
    specs = _specs(inputs) or _known_inputs(sides[0]) or _known_inputs(sides[1])
    for side in (second, first):  # names that are parameters of forward bind by name; the reference has the last word
        if isinstance(side, Checkpoint) and side.model is not None:
            specs = onnx_export.bound(side.model, specs, str(side.path))
    if not specs:
        raise UsageError("parity", "neither side says what it reads", "give the shape of one sample: --input 3x224x224")
    arrays = parity.load_arrays(data, specs) if data is not None else None
    if isinstance(first, ir.Model):
        if isinstance(second, ir.Model):
            return parity.compare(first, second, inputs=specs, data=arrays, sizes=batches, layers=layers)
        return parity.check_torch(first, _torch(second), specs, data=arrays, sizes=batches)
    if isinstance(second, ir.Model):
        known = _layers_for(first, candidate, specs) if layers else ()
        return parity.check_model(_torch(first), second, known, specs, data=arrays, sizes=batches)
    return parity.check_torch(_torch(first), _torch(second), specs, data=arrays, sizes=batches)


def _check_plan(
    reference: Checkpoint | ir.Model,
    plan: Plan,
    specs: Sequence[InputSpec],
    data: str | Path | None,
    batches: tuple[int, ...] | None,
) -> parity.ParityReport:
    arrays = parity.load_arrays(data, specs or plan_inputs(read_manifest(plan.path))) if data is not None else None
    model = reference if isinstance(reference, ir.Model) else _torch(reference)
    return check_plan(model, plan, specs, data=arrays, sizes=batches)


def inspect(source: Checkpoint | str | Path, inputs: Inputs = ()) -> Inspection:
    """What a checkpoint or ONNX file holds, and what `fold` would do with it; writes nothing.

    What would fold is known only where the graph is: for ONNX files and exported programs always, for modules
    once `inputs` are given.
    """
    if isinstance(source, (str, Path)) and _is_onnx(source):
        result = fold_model(open_onnx(source), FOLDING)
        return Inspection(Path(source), "onnx", (), (), (), result.norms, result.warnings)
    checkpoint = source if isinstance(source, Checkpoint) else load(source)
    known = checkpoint.path, checkpoint.source, checkpoint.norms, checkpoint.weight_norms, checkpoint.notes
    if checkpoint.program is None and checkpoint.model is None:
        return Inspection(*known, None, outcomes_note="give --model and --input to see what would fold")
    if checkpoint.program is None and not inputs:
        return Inspection(*known, None, outcomes_note="give --input to see what would fold")
    result = fold_model(onnx_export.export(checkpoint, _specs(inputs)).model, FOLDING)
    return Inspection(*known, result.norms, result.warnings)


class _Clock:
    """Announces stages and keeps their wall times."""

    def __init__(self, announce: OnStage) -> None:
        self._announce = announce
        self.seconds: tuple[tuple[str, float], ...] = ()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._announce(name)
        start = time.perf_counter()
        yield
        self.seconds += ((name, round(time.perf_counter() - start, 3)),)


def _specs(inputs: Inputs) -> tuple[InputSpec, ...]:
    if all(isinstance(item, InputSpec) for item in inputs):
        return tuple(item for item in inputs if isinstance(item, InputSpec))
    return parse_inputs([str(item) for item in inputs])


def _write_model(model: ir.Model, layers: Sequence[onnx_export.Layer], path: Path) -> None:
    text = onnx_export.sidecar_text(layers, model, path.name)
    with replacing(onnx_export.sidecar_path(path)) as sidecar:
        sidecar.write_text(text)
        save_onnx(model, path)


def _written(folder: Path) -> list[str]:
    """File names, the model first."""
    return sorted((file.name for file in folder.iterdir()), key=lambda name: (name != "model.onnx", name))


def _is_onnx(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".onnx"


def _side(source: Checkpoint | ir.Model | str | Path) -> Checkpoint | ir.Model:
    if isinstance(source, (Checkpoint, ir.Model)):
        return source
    return open_onnx(source) if _is_onnx(source) else load(source)


def _torch(side: Any) -> nn.Module | ExportedProgram:
    model = side.program if side.program is not None else side.model
    if model is None:
        raise UsageError(str(side.path), "holds weights but no model", "name its code: --model package.module:factory")
    assert isinstance(model, (nn.Module, ExportedProgram))
    return model


def _known_inputs(side: Checkpoint | ir.Model) -> tuple[InputSpec, ...]:
    if isinstance(side, ir.Model):
        return parity.input_specs(side)
    return onnx_export.inputs_of_program(side.program) if side.program is not None else ()


def _layers_for(
    reference: Checkpoint, candidate: Checkpoint | ir.Model | str | Path, specs: Sequence[InputSpec]
) -> tuple[onnx_export.Layer, ...]:
    """The layer map beside the candidate's file; without one, that of exporting the reference anew."""
    if isinstance(candidate, (str, Path)):
        beside = onnx_export.sidecar_path(Path(candidate))
        if beside.exists():
            return onnx_export.read_sidecar(beside)
    return onnx_export.export(reference, specs).layers
