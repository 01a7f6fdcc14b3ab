"""The verb `bench`: how long files take, and whether one takes longer than another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from normexport import checkpoint, onnx_export, proof
from normexport.checkpoint import Checkpoint
from normexport.dtypes import array_name
from normexport.errors import UsageError
from normexport.graphs.inline import inline_functions
from normexport.io.atomic import scratch
from normexport.io.onnx_model import opened_model, save_onnx
from normexport.norms.own_bodies import require_own_bodies
from normexport.onnx_export import InputSpec
from normexport.precision.config import Draw
from normexport.proof.inputs.batches import slice_batches
from normexport.proof.judge import require_ends
from normexport.runtime import Array, ort_library
from normexport.runtime.base import Port, checked_feeds
from normexport.runtime.tensorrt_runtime import Plan
from normexport.timing.case import Case, Opening
from normexport.timing.config import OF_ONNX, OF_PLANS, OF_TORCH, BenchConfig
from normexport.timing.elsewhere import Measured as MeasuredGroup
from normexport.timing.elsewhere import measure_on, node_notes
from normexport.timing.machine import machine_facts
from normexport.timing.result import Benchmark, Ratio, Timing
from normexport.timing.rounds import take_turns
from normexport.verbs.clock import OnStage
from normexport.verbs.real_data import RealData, check_images, require_data
from normexport.verbs.subjects import Inputs, agreed_inputs, is_onnx, specs_of

#: What can be measured: an ONNX model or file, the file of a checkpoint, a plan.
Measured = str | Path | ir.Model | onnx.ModelProto | Plan


@dataclass(frozen=True)
class _Subject:
    """One of the files: its name, what it is, and the runtimes that it is measured on."""

    name: str
    side: Checkpoint | ir.Model | Plan
    path: Path | None
    runtimes: tuple[str, ...]


def bench(
    files: Sequence[Measured],
    inputs: Inputs = (),
    config: BenchConfig | None = None,
    on_stage: OnStage | None = None,
) -> Benchmark:
    """Measure how long each of some files takes, and whether it takes longer than the first.

    Each case of the grid (file, runtime, threads, batch size) runs in a process of its own. Those of one batch size and
    number of threads take turns; where there is one file on one runtime, all numbers of threads do.

    Args:
        files: ONNX models or files, checkpoints' files, plans; a plan is trusted as far as it says itself.
        inputs: shapes of one sample, for sizes that no file tells.
        config: what is measured, and for how long.
        on_stage: told what is being measured.

    Raises:
        UsageError: the files read different inputs, or none of the runtimes takes one of them.
        FoldError, CheckpointError: a file is damaged, or can't be run.
        MissingComponent: a runtime, or its device, is not there.
    """
    config = config or BenchConfig()
    if not files:
        raise UsageError("bench", "was given no file", "name one or more: normexport bench a.onnx b.onnx")
    draw = Draw(config.samples, config.seed, config.skip_bad)
    require_data(draw, config.data)
    prepared = check_images(config.preprocess, config.data, headers=not draw.skip_bad)
    subjects = [_open(file, config) for file in files]
    sides = sorted((each.side for each in subjects), key=lambda side: isinstance(side, Checkpoint))
    specs = agreed_inputs(sides, inputs, config.data)
    for each in reversed(subjects):  # the first has the last word on names
        if isinstance(each.side, Checkpoint) and each.side.model is not None:
            specs = onnx_export.bound(each.side.model, specs, str(each.path))
    if not specs:
        raise UsageError("bench", "no file says what it reads", "give the shape of one sample: --input 3x224x224")
    first = None
    if config.data is not None:
        first = RealData(config.data, prepared, draw).first(specs, max(config.batches))
    arrays, left_out = (None, ()) if first is None else (first.few, first.skipped)
    with scratch() as folder:
        groups = _groups(_cases(subjects, specs, arrays, config, folder))
        found = _measured(groups, config, folder, on_stage or (lambda stage: None))
    timings, ratios = _numbered_through(found)
    notes = tuple(
        f"{each.words}: calls had not become steady when counting began" for each in timings if not each.settled
    )
    notes += tuple(f"left out: {line}" for line in left_out)
    notes += node_notes(found) if config.on is not None and config.on.ray else ()
    told = config.percentiles, config.average_of
    timings = tuple(replace(each, percentiles=told[0], average_of=told[1]) for each in timings)
    return Benchmark(timings, ratios, arrays is not None, found[0].machine, notes)


def _measured(
    groups: Sequence[Sequence[Case]], config: BenchConfig, folder: Path, on_stage: OnStage
) -> list[MeasuredGroup]:
    """Every group of cases, in turns."""
    comparisons = sum(len(group) - 1 for group in groups)
    if config.on is not None and config.on.ray:
        return measure_on(config.on, groups, replace(config, load={}, preprocess=None), comparisons, folder, on_stage)
    found = []
    for group in groups:
        began = time.monotonic()
        timings, ratios = take_turns(group, config, comparisons, on_stage)
        on_stage(f"{group[0].file}, measured in {time.monotonic() - began:.0f} s")
        found.append(MeasuredGroup(timings, ratios, "", machine_facts()))
    return found


def _numbered_through(groups: Sequence[MeasuredGroup]) -> tuple[tuple[Timing, ...], tuple[Ratio, ...]]:
    """The times of all groups, and ratios by their positions in these."""
    timings: list[Timing] = []
    ratios: list[Ratio] = []
    for group in groups:
        base = len(timings)
        timings += group.timings
        ratios += [replace(each, case=base + each.case, base=base) for each in group.ratios]
    return tuple(timings), tuple(ratios)


def _open(file: Measured, config: BenchConfig) -> _Subject:
    if isinstance(file, Plan):
        return _Subject(file.path.name, file, file.path, _runtimes(str(file.path), OF_PLANS, config))
    if isinstance(file, ir.Model | onnx.ModelProto):
        return _Subject(
            file.graph.name or "model",
            opened_model(file, config.weights_under),
            None,
            _runtimes("the model", OF_ONNX, config),
        )
    if not isinstance(file, str | Path):
        raise UsageError(type(file).__name__, "is no file to measure", "give a path, an ONNX model or a Plan")
    path = Path(file)
    if is_onnx(path):
        runtimes = _runtimes(str(path), OF_ONNX, config)
        return _Subject(path.name, opened_model(path, config.weights_under), path, runtimes)
    runtimes = _runtimes(str(path), OF_TORCH, config)
    return _Subject(path.name, checkpoint.load(path, **config.load), path, runtimes)


def _runtimes(place: str, known: Sequence[str], config: BenchConfig) -> tuple[str, ...]:
    """Those asked for that take the file; the usual one where none are asked for."""
    if not config.runtimes:
        return (known[0],)
    taken = tuple(dict.fromkeys(each for each in config.runtimes if each in known))
    if not taken:
        cause = f"runs on none of {', '.join(config.runtimes)}"
        raise UsageError(place, cause, f"add one of {', '.join(known)} to --runtime")
    return taken


def _cases(
    subjects: Sequence[_Subject],
    specs: tuple[InputSpec, ...],
    arrays: Mapping[str, Array] | None,
    config: BenchConfig,
    folder: Path,
) -> list[Case]:
    """The grid, files first, so that the first case of a batch size is the first file's."""
    names = _names(subjects)
    cases = []
    batched = any(spec.batched for spec in specs)
    if not batched and config.batches not in ((1,), BenchConfig.batches):
        raise UsageError("--batches", "the files fix their batch", "leave it out")
    for batch in config.batches if batched else (0,):
        feeds = _feeds(subjects, specs, arrays, batch, config)
        for index, subject in enumerate(subjects):
            _require_fit(subject, feeds)
            for runtime in subject.runtimes:
                file, library = _file_for(subject, index, runtime, folder)
                for threads in config.threads:
                    opening = _opening(subject, specs, Opening(runtime, file, threads, (), (), library), config)
                    cases.append(Case(names[index], opening, batch, feeds))
    return cases


def _names(subjects: Sequence[_Subject]) -> list[str]:
    """File names; whole paths where two are alike."""
    names = [each.name for each in subjects]
    return [str(each.path) if names.count(each.name) > 1 and each.path is not None else each.name for each in subjects]


def _opening(subject: _Subject, specs: tuple[InputSpec, ...], opening: Opening, config: BenchConfig) -> Opening:
    """With the inputs in the order of the file, and how a checkpoint is read."""
    if isinstance(subject.side, Checkpoint):
        names = tuple(spec.name for spec in specs)
        return replace(opening, inputs=names, specs=specs, load=dict(config.load))
    if isinstance(subject.side, Plan):
        return replace(opening, inputs=tuple(spec.name for spec in specs))
    return replace(opening, inputs=tuple(each.name for each in proof.declared_by_file(subject.side, specs)))


def _feeds(
    subjects: Sequence[_Subject],
    specs: tuple[InputSpec, ...],
    arrays: Mapping[str, Array] | None,
    batch: int,
    config: BenchConfig,
) -> dict[str, Array]:
    """The inputs of one call: the first samples of the data, else random ones as a proof makes them."""
    # Types that numpy lacks travel as float32.
    ports = [Port(spec.name, array_name(spec.dtype) if spec.floating else spec.dtype) for spec in specs]
    if arrays is not None:
        feeds = next(slice_batches(specs, arrays, batch or 1), None)
        if feeds is None or (batch and len(next(iter(feeds.values()))) < batch and specs[0].axes == (0,)):
            raise UsageError(str(config.data), f"holds fewer than {batch} samples", "give smaller --batches")
        return checked_feeds("bench", ports, feeds)
    graph = next((each.side for each in subjects if isinstance(each.side, ir.Model)), None)
    tried = proof.choose_batches(specs, sizes=(batch,) if batch else None, seed=config.seed, graph=graph)
    return checked_feeds("bench", ports, tried.batches[0].feeds)


def _require_fit(subject: _Subject, feeds: Mapping[str, Array]) -> None:
    """Refuse what would take more memory than it may, or never end."""
    if isinstance(subject.side, ir.Model):
        batch = proof.Batch("bench", len(next(iter(feeds.values()), np.zeros(1))) if feeds else 1, feeds)
        proof.require_room(subject.side, (batch,))
        require_ends(subject.side, batch)


def _file_for(subject: _Subject, index: int, runtime: str, folder: Path) -> tuple[Path | Plan, Path | None]:
    """What the measuring process opens, and the library of native norms: an ONNX model as it was checked."""
    if isinstance(subject.side, Plan):
        return subject.side, None
    if isinstance(subject.side, Checkpoint):
        assert subject.path is not None
        return subject.path, None
    model = subject.side
    require_own_bodies(model)
    inlined = runtime == "openvino"
    path = folder / f"{index}{'_inlined' if inlined else ''}.onnx"
    if not path.exists():
        save_onnx(inline_functions(model) if inlined else model, path)
    return path, ort_library.library_for(model) if runtime == "onnxruntime" else None


def _groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that take turns: those of one batch size and number of threads, or of all numbers where that is all."""
    several = len({(case.file, case.opening.runtime) for case in cases}) > 1
    groups: dict[tuple[int, int], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.batch, case.opening.threads if several else 0), []).append(case)
    return list(groups.values())


def shapes_as_inputs(shapes: Mapping[str, Sequence[int]]) -> tuple[tuple[InputSpec, ...], int]:
    """Whole shapes, as trtexec's `--shapes` has them -> shapes of a sample, and the batch size that they share.

    Raises:
        UsageError: they share no first size.
    """
    first = {tuple(shape[:1]) for shape in shapes.values()}
    if len(first) != 1 or first == {()}:
        raise UsageError("--shapes", "its shapes share no first size", "give --input and --batches instead")
    texts = [f"{name}={'x'.join(map(str, shape[1:])) or 'scalar'}" for name, shape in shapes.items()]
    return specs_of(texts), int(first.pop()[0])
