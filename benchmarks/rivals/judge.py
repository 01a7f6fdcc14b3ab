"""How good, how large and how fast a candidate's file is, against the float32 file."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

Arrays = dict[str, np.ndarray[Any, Any]]
TURNS = 9
#: Least margins of decisions that are counted together. Of logits, 0.1 is 52.5 to 47.5 %, and 1 is 73 to 27 %.
MARGINS = (0.0, 0.1, 0.3, 1.0)


def outputs_of(path: Path, samples: Arrays, batch: int) -> list[np.ndarray[Any, Any]]:
    """Every output over all samples, the file computed as it is written: ONNX Runtime, its optimisations off."""
    session = _session(path, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, 0)
    runs = [session.run(None, each) for each in _batches(session, samples, batch)]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def snr_db(exact: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """10 log10(sum (r - m)^2 / sum (v - r)^2), m each element's mean over the samples; minus infinity for NaN."""
    wide = exact.astype(np.float64)
    signal, noise = np.square(wide - wide.mean(axis=0)).sum(), np.square(found - wide).sum()
    if not np.isfinite(noise) or found.shape != exact.shape:
        return -np.inf
    return float(10 * np.log10(signal / noise)) if noise and signal else np.inf


def agreement(exact: np.ndarray[Any, Any], found: np.ndarray[Any, Any], axis: int) -> float:
    """Share of decisions that are alike, each the largest along an axis; NaN decides nothing."""
    return float(np.mean((exact.argmax(axis) == found.argmax(axis)) & ~np.isnan(found).any(axis)))


def by_margin(exact: np.ndarray[Any, Any], found: np.ndarray[Any, Any], axis: int) -> list[tuple[float, int, int]]:
    """(least margin, decisions, alike) for each of `MARGINS`: float32's largest number less its second."""
    ordered = np.sort(exact, axis=axis)
    margin = np.take(ordered, -1, axis) - np.take(ordered, -2, axis)
    alike = (exact.argmax(axis) == found.argmax(axis)) & ~np.isnan(found).any(axis)
    ends = (*MARGINS[1:], np.inf)
    parts = [(low, (margin >= low) & (margin < high)) for low, high in zip(MARGINS, ends, strict=True)]
    return [(low, int(part.sum()), int((alike & part).sum())) for low, part in parts]


def quality(
    path: Path, samples: Arrays, batch: int, classes: int | None, exact: list[np.ndarray[Any, Any]]
) -> dict[str, Any]:
    """SNR of each floating output by its position, and the agreement of decisions in per cent and by margin."""
    found = outputs_of(path, samples, batch)
    ratios = [snr_db(a, b) for a, b in zip(exact, found, strict=True) if a.dtype.kind == "f"]
    same = None if classes is None else 100 * agreement(exact[0], found[0], classes)
    margins = None if classes is None else by_margin(exact[0], found[0], classes)
    size = {"bytes": path.stat().st_size, "layers": count_layers(path)}
    return {"snr_db": ratios, "agreement": same, "by_margin": margins, **size}


def count_layers(path: Path) -> list[int]:
    """Layers with weights that compute on integers, and all of them."""
    graph = onnx.load(path, load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    integers = [
        node.op_type for node in graph.node if node.op_type.startswith(("QLinearConv", "QLinearMatMul", "QGemm"))
    ]
    pairs = [
        all(name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2]) for node in layers
    ]
    return [sum(pairs) + len(integers), len(layers) + len(integers)]


def race(float32: Path, path: Path, samples: Arrays, batch: int) -> dict[str, Any]:
    """By runtime, float32's time over the candidate's: the median of runs taken in turn, one thread each.

    Time is the processor's, which other programs on the machine lengthen little.
    """
    feeds = {name: array[:batch] for name, array in samples.items()}
    found: dict[str, Any] = {}
    for name, runner in (("ort", _on_ort), ("openvino", _on_openvino)):
        try:
            runs = [runner(each, feeds) for each in (float32, path)]
            times = [[_timed(run) for run in runs] for _ in range(TURNS + 2)][2:]
            found[name] = statistics.median(a / b for a, b in times)
        except Exception as error:  # what a runtime says of a tool's file
            found[name] = repr(error).splitlines()[0][:80]
    return found


def _timed(run: Any) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _on_ort(path: Path, feeds: Arrays) -> Any:
    session = _session(path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, 1)
    one = next(_batches(session, feeds, len(next(iter(feeds.values())))))
    return lambda: session.run(None, one)


def _on_openvino(path: Path, feeds: Arrays) -> Any:
    from normexport.runtime import OpenVinoRuntime

    runtime = OpenVinoRuntime(path, threads=1)
    return lambda: runtime.run(feeds)


def _session(path: Path, level: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _batches(session: Any, samples: Arrays, batch: int) -> Any:
    names = [port.name for port in session.get_inputs()]
    size = session.get_inputs()[0].shape[0]
    each = size if isinstance(size, int) else batch
    count = len(next(iter(samples.values()))) // each * each
    for start in range(0, count, each):
        yield {name: samples[name][start : start + each] for name in names}
