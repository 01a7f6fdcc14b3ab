"""The verb `calibrate`: what a network's tensors are on samples, as a state that adds up with those of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.graphs.constant_nodes import store_constants
from normexport.io.atomic import check_writable
from normexport.io.overwriting import check_outputs
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import InputSpec
from normexport.precision import Draw, Int8
from normexport.precision.int8.gather import gather
from normexport.precision.int8.state import CalibrationState, merge
from normexport.precision.int8.state_files import read_state
from normexport.precision.numbered import Numbered, numbered, samples_by_number
from normexport.runtime.guarded import Tell
from normexport.verbs.config import ConvertConfig
from normexport.verbs.float32_model import fold_for, prepared_for, read_network
from normexport.verbs.networks import Network, Source, open_given
from normexport.verbs.real_data import check_images
from normexport.verbs.subjects import Inputs
from normexport.workers import LOCAL, Where


@dataclass(frozen=True)
class CalibrateConfig:
    """How to calibrate in parts.

    Attributes:
        batch: samples run at a time; the same in all parts.
        samples: how many, drawn by `seed`; None: all.
        seed: of the draw; the same in all parts.
        part: (i, n): only the i-th of n parts of the batches, counted from 1.
        on: where the batches are computed.
        skip_bad: how many samples may be left out because they can't be read; each is listed.
        resume: go on from the state at `output`, which a run writes now and then.
        preprocess: what is done to images; None: values in [0, 1] at the model's size.
        weights_under: a folder in which external data of an ONNX file may lie too.

    Raises:
        UsageError: a number below 1, or no such part.
    """

    batch: int = Int8.batch
    samples: int | None = None
    seed: int = 0
    part: tuple[int, int] | None = None
    on: Where = field(default=LOCAL)
    skip_bad: int = 0
    resume: bool = False
    preprocess: Preprocess | None = None
    weights_under: str | Path | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError(f"--batch {self.batch}", "is not a number of samples", "give at least 1")
        Draw(self.samples, self.seed, self.skip_bad)  # has refusals of its own
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise UsageError(f"--part {self.part[0]}/{self.part[1]}", "is no part", "write it as 1/4, 2/4, ... 4/4")


_DEFAULT = CalibrateConfig()


def calibrate(
    source: Source,
    data: str | Path | Iterable[Any],
    output: str | Path | None = None,
    inputs: Inputs = (),
    config: CalibrateConfig = _DEFAULT,
    on_samples: Callable[[int, int], None] | None = None,
) -> CalibrationState:
    """Histograms of all tensors of the float32 model that `convert` to int8 makes, on samples or a part of them.

    The state is the same to the byte wherever it was computed and however it was parted, and `convert` takes it as
    `Int8.cache`: any method makes ranges of it.

    Args:
        source: what `convert` takes: a checkpoint, an ONNX model, the path of either, a function that loads one.
        data: samples: .npz, .npy, a folder, or a sequence of samples.
        output: the file to write; None: none.
        inputs: shapes of one sample, where the model does not know its own.
        config: batches, parts, where.
        on_samples: called with how many samples have been seen, of how many.

    Raises:
        UsageError: samples that are unreadable or do not fit; a state to go on from that is of something else.
        CheckpointError, ExportError, FoldError: see `convert`.
        MissingComponent: ONNX Runtime, or Ray where that is asked for, is not installed.
    """
    path = None if output is None else Path(output)
    prepared = check_images(config.preprocess, data, headers=not config.skip_bad)
    begun = _begun(path, config)
    given = open_given(source, config.weights_under)
    with given.named():
        if path is not None:
            check_outputs([(path, "the calibration state")], [*given.files(), *_files(data)])
            check_writable(path.parent)
        made_by = ConvertConfig(precision=Int8(), weights_under=config.weights_under)
        network, graph = read_network(given, inputs, made_by, partial(_look_at, data, prepared, config))
        work = partial(_gather, network, graph, made_by, data, prepared, path, begun, config)
        listen = _silent if on_samples is None else on_samples
        # What runs on workers can't end this process, and a cluster is best ended by the process that has started it.
        state = work(listen) if config.on.ray else given.guarded(work, listen)
    if path is not None:
        state.save(path)
    return state


def merge_calibrations(
    states: Sequence[str | Path | CalibrationState], output: str | Path | None = None
) -> CalibrationState:
    """The sum of calibration states, the same in any order, and for the parts of some samples that of them all.

    Args:
        states: two or more, or their files.
        output: the file to write; None: none.

    Raises:
        UsageError: a file is no state; they are of other models, batches or arithmetic, or have seen the same samples;
            the output is one of them, or can't be written.
    """
    if not states:
        raise UsageError("states to merge", "are none", "give two or more")
    if output is not None:
        files = [(Path(each), "a state") for each in states if isinstance(each, (str, Path))]
        check_outputs([(Path(output), "the calibration state")], files)
        check_writable(Path(output).parent)
    named = [(str(each), read_state(Path(each))) if isinstance(each, (str, Path)) else ("", each) for each in states]
    _, whole = reduce(lambda first, second: (first[0], merge(first[1], second[1], (first[0], second[0]))), named)
    if output is not None:
        whole.save(Path(output))
    return whole


def _gather(
    network: Network,
    graph: Any,
    made_by: ConvertConfig,
    data: str | Path | Iterable[Any],
    prepared: Preprocess,
    path: Path | None,
    begun: CalibrationState | None,
    config: CalibrateConfig,
    tell: Tell,
) -> CalibrationState:
    model = store_constants(prepared_for(fold_for(graph, made_by).model, made_by)[0])
    chosen = _chosen(data, prepared, config, network.inputs)
    number, parts = config.part or (1, 1)
    return gather(
        model,
        chosen,
        config.on,
        begun=begun,
        only=lambda batch: batch % parts == number - 1,
        skip_bad=config.skip_bad,
        checkpoint=path,
        on_batch=lambda seen: tell(seen, len(chosen.numbers)),
    )


def _chosen(
    data: str | Path | Iterable[Any], prepared: Preprocess, config: CalibrateConfig, specs: Sequence[InputSpec]
) -> Numbered:
    return numbered(samples_by_number(data, specs, prepared), config.batch, config.samples, config.seed)


def _look_at(
    data: str | Path | Iterable[Any],
    prepared: Preprocess,
    config: CalibrateConfig,
    specs: Sequence[InputSpec],
    arrays: object,
) -> None:
    """Refuse samples of another network before a checkpoint is exported; an iterable is left to its turn."""
    if isinstance(data, str | Path):
        _chosen(data, prepared, config, specs)


def _begun(path: Path | None, config: CalibrateConfig) -> CalibrationState | None:
    if not config.resume:
        return None
    if path is None:
        raise UsageError("--resume", "has no state to go on from", "name its file with -o")
    return read_state(path) if path.exists() else None


def _files(data: object) -> list[tuple[Path, str]]:
    return [(Path(data), "the samples")] if isinstance(data, (str, Path)) else []


def _silent(*words: object) -> None:
    """Nobody listens."""
