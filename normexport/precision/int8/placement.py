"""Where int8 pays on a CPU runtime: placements that a cost model proposes, each made, timed in turns and judged.

int8 everywhere is not the fastest file: a first convolution of one channel, or a layer between two that stay float32,
can take longer in int8 than in float32. The cost model (`placement_costs`) says which modules to leave out; what it
proposes is made and profiled, which corrects it, until it proposes the same again. Penalties for the noise that each
module alone makes in int8 give placements that are slower and more accurate, so that there is a curve.

All of them take turns with int8 everywhere, in processes of their own (`timing`). The one that is kept is the most
accurate of those that hold the limits and are no more than `GUARD` slower than the fastest. int8 everywhere is among
them, so that what is kept is never slower than that by more than `GUARD`, as measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from normexport.graphs.inline import inline_functions
from normexport.io.atomic import scratch
from normexport.io.onnx_model import save_onnx
from normexport.precision.int8.placement_costs import (
    Costs,
    Parts,
    Sample,
    cheapest,
    cheapest_with_some,
    fit,
    parts_of,
)
from normexport.runtime import Array, Feeds, OnnxRuntime, ort_library
from normexport.timing.case import Case, Opening
from normexport.timing.config import BenchConfig
from normexport.timing.kernels import Kernel, kernel_times
from normexport.timing.result import Ratio
from normexport.timing.rounds import take_turns

#: By how much of the fastest's time a more accurate placement may be slower.
GUARD = 0.02
#: One thread: its processor time is compared, of which other programs take none.
THREADS = 1
RUNTIME_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
_ROUNDS = 4  # of proposing, making and correcting
#: Of all noise, as multiples of all the time that int8 saves.
_PRICES = tuple(0.01 * 2.0**step for step in range(12))
_MOST = 5  # placements that are timed beside int8 everywhere
_TIMED = BenchConfig(threads=(THREADS,), duration=0.8, openings=8, most=2.0)  # 8 give an interval

#: Makes the int8 model with these modules in float32.
Make = Callable[[Collection[str]], ir.Model]
#: Of a model: (SNR in dB of the worst output, loss of the metric or None, whether the limits hold).
Judge = Callable[[ir.Model], tuple[float, float | None, bool]]


@dataclass(frozen=True)
class PlacementPoint:
    """One placement: what is in float32, what that gives, and how long it takes.

    Attributes:
        excluded: modules in float32, beside those that stay there anyway.
        snr_db: SNR in dB of the worst output.
        drop: what the metric loses; None without labels.
        holds: whether the limits hold.
        ratio: its time divided by that of int8 everywhere.
        low, high: what that lies between.
    """

    excluded: tuple[str, ...]
    snr_db: float
    drop: float | None
    holds: bool
    ratio: float = 1.0
    low: float = 1.0
    high: float = 1.0


@dataclass(frozen=True)
class Placement:
    """Where int8 was put, and what else was tried.

    Attributes:
        runtime: on which all was timed.
        samples: of a run that was timed.
        points: what was tried: int8 everywhere, then the others, the fastest first.
        chosen: the position of what was kept among them.
        float32: the time of the float32 model divided by that of int8 everywhere.
        threads: of a run that was timed.
        guard: see `GUARD`.
    """

    runtime: str
    samples: int
    points: tuple[PlacementPoint, ...]
    chosen: int
    float32: float
    threads: int = THREADS
    guard: float = GUARD

    @property
    def excluded(self) -> tuple[str, ...]:
        """The modules that are in float32 for the time they save."""
        return self.points[self.chosen].excluded


def place(
    model: ir.Model,
    runtime: str,
    make: Make,
    judge: Judge,
    noise: Callable[[Sequence[str]], Mapping[str, float]],
    feeds: Feeds,
    kept: Collection[str] = (),
) -> Placement:
    """Find out where int8 pays.

    Args:
        model: float32, from which `make` makes the others.
        runtime: one of `timing.kernels.PROFILED`.
        noise: of each of these modules alone in int8, its noise as a share of the signal of the worst output.
        feeds: one run, which is timed.
        kept: modules that stay in float32 anyway.

    Raises:
        FoldError: the runtime can't run one of the models.
        MissingComponent: it is not installed.
    """
    parts = parts_of(model, kept, _sizes(model, feeds))
    proposed = _proposals(model, parts, make, noise, lambda made: kernel_times(made, runtime, feeds, THREADS))
    points = [PlacementPoint(tuple(each for each in parts.modules if each in left), *judge(make(left)))
              for left in proposed]  # fmt: skip
    ratios = time_models([*map(make, proposed), model], runtime, feeds)
    timed = [
        replace(point, ratio=ratio.interval.ratio, low=ratio.interval.low, high=ratio.interval.high)
        for point, ratio in zip(points[1:], ratios, strict=False)
    ]
    points = [points[0], *sorted(timed, key=lambda point: point.ratio)]
    samples = max((len(array) for array in feeds.values() if array.ndim), default=1)
    return Placement(runtime, samples, tuple(points), choose(points), ratios[-1].interval.ratio)


def choose(points: Sequence[PlacementPoint]) -> int:
    """The position of the placement to keep; int8 everywhere, the first, where none holds the limits."""
    good = [index for index, point in enumerate(points) if point.holds]
    if not good:
        return 0
    fastest = min(points[index].ratio for index in good)
    near = [index for index in good if points[index].ratio <= fastest * (1 + GUARD)]
    return max(near, key=lambda index: (points[index].snr_db, -points[index].ratio))


def _proposals(
    model: ir.Model,
    parts: Parts,
    make: Make,
    noise: Callable[[Sequence[str]], Mapping[str, float]],
    profile: Callable[[ir.Model], tuple[Kernel, ...]],
) -> list[frozenset[str]]:
    """Placements to measure, int8 everywhere first; none has nothing in int8."""
    nothing, everything = frozenset[str](), frozenset(parts.modules)
    samples = [Sample(nothing, profile(make(nothing))), Sample(everything, profile(model))]
    for _ in range(_ROUNDS):
        found = cheapest(parts, fit(parts, samples))
        if found in {sample.excluded for sample in samples}:
            break
        samples.append(Sample(found, profile(make(found))))
    costs = fit(parts, samples)
    found = cheapest_with_some(parts, costs)
    priced = [cheapest(parts, costs, _penalties(price, costs, noise_of))
              for noise_of in [noise(sorted(everything - found))] for price in _PRICES]  # fmt: skip
    settled = dict.fromkeys([nothing, found, *(sample.excluded for sample in samples)])
    dearer = [each for each in dict.fromkeys(priced) if each not in settled]
    room = max(0, _MOST + 1 - len(settled))
    spread = [dearer[index * len(dearer) // room] for index in range(room)] if len(dearer) > room else dearer
    return [nothing, *(each for each in (*settled, *spread) if each not in (nothing, everything))]


def _penalties(price: float, costs: Costs, noise: Mapping[str, float]) -> dict[str, float]:
    """Seconds for the noise of each module, so that all of it is worth `price` times what int8 saves."""
    total = sum(noise.values())
    return {module: price * costs.saved * each / total for module, each in noise.items()} if total > 0 else {}


def time_models(models: Sequence[ir.Model], runtime: str, feeds: Feeds) -> tuple[Ratio, ...]:
    """The time of each model but the first, as a ratio to that of the first; each interval holds by itself."""
    with scratch() as folder:
        cases = [_case(model, folder / f"{index}.onnx", runtime, feeds) for index, model in enumerate(models)]
        return take_turns(cases, _TIMED, 1, lambda stage: None)[1]


def _case(model: ir.Model, path: Path, runtime: str, feeds: Feeds) -> Case:
    save_onnx(inline_functions(model) if runtime == "openvino" else model, path)
    library = ort_library.library_for(model) if runtime == "onnxruntime" else None
    samples = max((len(array) for array in feeds.values() if array.ndim), default=1)
    return Case(path.name, Opening(runtime, path, THREADS, tuple(feeds), (), library), samples, feeds)


def _sizes(model: ir.Model, feeds: Feeds) -> dict[str, int]:
    """How many numbers each tensor has in a run."""
    sizes = {name: array.size for name, array in feeds.items()}

    def look(name: str, array: Array) -> None:
        sizes[name] = array.size

    names = [str(value.name) for node in model.graph for value in node.outputs if value.name]
    OnnxRuntime(model).run(feeds, names, look)
    return sizes
