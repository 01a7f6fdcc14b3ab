"""What is measured and for how long: the config of `bench`, which loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess
from normexport.workers import Where

#: What runs ONNX files, checkpoints and plans: the first of each is taken where nobody chooses.
OF_ONNX = ("onnxruntime", "onnxruntime-cuda", "openvino")
OF_TORCH = ("torch", "torch-cuda", "torch-compiled", "torch-compiled-cuda")
OF_PLANS = ("tensorrt",)
BENCH_RUNTIMES = (*OF_ONNX, *OF_TORCH, *OF_PLANS)

#: The signed ranks of fewer than 8 give no interval at `timing.intervals.CONFIDENCE`.
OPENINGS = 10

#: Percent of the calls whose longest latencies are told where nobody says which.
PERCENTILES = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class BenchConfig:
    """What to measure, and for how long.

    Attributes:
        runtimes: of `BENCH_RUNTIMES`; each file is run on those that take it. Empty: onnxruntime, torch, tensorrt.
        threads: threads of one inference, each measured; 0: as many as the runtime chooses.
        batches: batch sizes, each measured.
        warm_up: milliseconds of calls before any is counted; they go on until two spans agree, or five times as long.
        duration: seconds of counted calls of every case, at least.
        iterations: counted calls of every case, at least.
        openings: how often every file is opened anew: a ratio has one value for each; of fewer than 8 no interval.
        most: up to how many times `duration` a comparison may take that is not yet known to `precision`.
        precision: half the width of a ratio's interval at which measuring may end: 0.02 is 2 %.
        percentiles: which are told of the latencies: 0 is the shortest, 100 the longest.
        average_of: tell the means of so many calls one after another too; None: do not.
        data: real inputs, in any form that `evaluate` takes: as many are read as the largest batch has; None: random.
        samples: how many of the data are meant, drawn by `seed`; None: all, of which the first are read.
        skip_bad: how many samples may be passed over because they can't be read; each is noted.
        preprocess: what is done to the images of a folder.
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.
        load: how checkpoints are read: keyword arguments of `normexport.load`.
        seed: of random inputs, of the draw, and of the order in which the cases take turns.
        on: the cluster on whose nodes groups of cases are measured, one at a time on each; None, or here: this machine.

    Raises:
        UsageError: an unknown runtime, or a number that can't be meant.
    """

    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1,)
    warm_up: float = 200.0
    duration: float = 3.0
    iterations: int = 10
    openings: int = OPENINGS
    most: float = 4.0
    precision: float = 0.02
    percentiles: tuple[float, ...] = PERCENTILES
    average_of: int | None = None
    data: str | Path | None = None
    samples: int | None = None
    skip_bad: int = 0
    preprocess: Preprocess | None = None
    weights_under: str | Path | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    on: Where | None = None

    def __post_init__(self) -> None:
        for name in self.runtimes:
            if name not in BENCH_RUNTIMES:
                raise UsageError(f"--runtime {name}", "is no runtime", f"choose of {', '.join(BENCH_RUNTIMES)}")
        self._require("--threads", min(self.threads, default=-1) >= 0, "give numbers from 0 on: 1,2")
        self._require("--batches", min(self.batches, default=0) >= 1, "give sizes from 1 on: 1,8")
        self._require("--warmUp", 0 <= self.warm_up < float("inf"), "give milliseconds")
        self._require("--duration", 0 < self.duration < float("inf"), "give seconds")
        self._require("--iterations", self.iterations >= 1, "give a number from 1 on")
        self._require("--openings", self.openings >= 1, "give a number from 1 on")
        self._require("--samples", self.samples is None or self.samples >= 1, "give a number from 1 on")
        self._require("--skip-bad", self.skip_bad >= 0, "give a number from 0 on")
        self._require("--percentile", all(0 <= each <= 100 for each in self.percentiles), "give numbers from 0 to 100")
        self._require("--percentile", bool(self.percentiles), "give one at least: 90,95,99")
        self._require("--avgRuns", self.average_of is None or self.average_of >= 1, "give a number from 1 on")
        self._require("most", self.most >= 1, "give a number from 1 on")
        self._require("precision", self.precision > 0, "give a share, as 0.02")

    @staticmethod
    def _require(place: str, holds: bool, remedy: str) -> None:
        if not holds:
            raise UsageError(place, "is out of range", remedy)
