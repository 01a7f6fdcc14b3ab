"""How long each operation of an ONNX file takes on a CPU runtime, by the runtime's own clock.

A runtime makes few operations of many nodes; it calls each by the name of one of the nodes that it was made of, or of a
tensor between them, with words of its own behind ("conv1_nchwc", "conv1_token_4", "conv1/WithoutBiases").
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx_ir as ir

from normexport.errors import FoldError, MissingComponent
from normexport.graphs.inline import inline_functions
from normexport.io.atomic import scratch
from normexport.io.onnx_model import save_onnx
from normexport.norms.own_bodies import require_own_bodies
from normexport.text import first_line, one_line

if TYPE_CHECKING:
    from normexport.runtime import Array

Made = TypeVar("Made")

#: The runtimes that tell.
PROFILED = ("onnxruntime", "openvino")
_FATAL = 4  # ONNX Runtime's log level
_RUNS = 9
_QUARTER = 25  # the percentile that counts, kernel by kernel: what disturbs makes them longer, nothing shorter
_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Kernel:
    """One operation.

    Attributes:
        name: the runtime's, see the top of this file.
        operator: the runtime's word for what it does.
        seconds: in some runs, of which three quarters took longer.
    """

    name: str
    operator: str
    seconds: float


def kernel_times(model: ir.Model, runtime: str, feeds: Mapping[str, Array], threads: int = 1) -> tuple[Kernel, ...]:
    """Every operation that a runtime makes of a model, at its default optimisation, in the order of their names.

    Args:
        runtime: one of `PROFILED`.
        threads: of one inference.

    Raises:
        FoldError: the runtime can't open or run it.
        MissingComponent: it is not installed.
    """
    require_own_bodies(model)
    model = _with_names(model)
    with scratch() as folder:
        path = folder / "model.onnx"
        save_onnx(inline_functions(model) if runtime == "openvino" else model, path)
        runs = (_openvino if runtime == "openvino" else _onnxruntime)(path, model, feeds, threads, folder)
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for key, seconds in run.items():
            found.setdefault(key, []).append(seconds)
    return tuple(Kernel(*key, float(np.percentile(each, _QUARTER))) for key, each in sorted(found.items()))


def _with_names(model: ir.Model) -> ir.Model:
    """A copy in which a node without a name has that of its first result: a runtime would number it."""
    copy = model.clone()
    for node in copy.graph:
        node.name = node.name or node.outputs[0].name
    return copy


def _onnxruntime(
    path: Path, model: ir.Model, feeds: Mapping[str, Array], threads: int, folder: Path
) -> list[dict[tuple[str, str], float]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingComponent.of("onnxruntime", "cpu") from error
    from normexport.runtime import ort_library

    onnxruntime.set_default_logger_severity(_FATAL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = _FATAL, threads
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    if (library := ort_library.library_for(model)) is not None:
        ort_library.register(options, library)

    def profiled() -> str:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(_RUNS):
            session.run(None, dict(feeds))
        return str(session.end_profiling())

    return _by_run(json.loads(Path(_or_refuse("ONNX Runtime", profiled)).read_text(encoding="utf-8")))


def _by_run(events: Iterable[Mapping[str, Any]]) -> list[dict[tuple[str, str], float]]:
    """The kernels of each run in ONNX Runtime's list of events, where a run is told behind its kernels."""
    runs: list[dict[tuple[str, str], float]] = [{}]
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            key = name.removesuffix(_SUFFIX), str(event.get("args", {}).get("op_name", ""))
            runs[-1][key] = runs[-1].get(key, 0.0) + float(event["dur"]) / 1e6
        elif name == "model_run":
            runs.append({})
    return [run for run in runs if run]


def _openvino(
    path: Path, model: ir.Model, feeds: Mapping[str, Array], threads: int, folder: Path
) -> list[dict[tuple[str, str], float]]:
    from normexport.runtime.openvino_runtime import import_openvino

    openvino = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }

    def profiled() -> list[dict[tuple[str, str], float]]:
        request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
        for index, value in enumerate(each for each in model.graph.inputs if each.name not in model.graph.initializers):
            array = np.require(feeds[str(value.name)], requirements=["C", "A"])
            request.set_input_tensor(index, openvino.Tensor(array))
        averages = []
        for _ in range(_RUNS + 1):
            request.infer()
            averages.append({(str(each.node_name), str(each.node_type)): each.real_time.total_seconds()
                             for each in request.profiling_info})  # fmt: skip
        return _from_averages(averages)

    return _or_refuse("OpenVINO", profiled)


def _from_averages(averages: Sequence[Mapping[tuple[str, str], float]]) -> list[dict[tuple[str, str], float]]:
    """The kernels of each run but the first, from their averages over all runs up to each, as OpenVINO tells them."""
    return [
        {key: max(0.0, number * now[key] - (number - 1) * before.get(key, 0.0)) for key in now}
        for number, (before, now) in enumerate(itertools.pairwise(averages), start=2)
    ]


def _or_refuse(place: str, work: Callable[[], Made]) -> Made:
    try:
        return work()
    except Exception as error:  # the bindings raise their own kinds, all derived from Exception
        cause = f"can't run it ({first_line(error, 300) if place != 'OpenVINO' else one_line(error)[-300:]})"
        raise FoldError(place, cause, "see: normexport run") from error
