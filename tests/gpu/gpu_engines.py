"""The TensorRT part of `make gpu-check`: the plugin on the device, and engines built, run and judged there.

The engines need a flavour of TensorRT that can be imported; what is missing is said and skipped.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_report import Report

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))


def check(report: Report, library: Path, host: Path, folder: Path, target: str) -> None:
    """`library`: the plugin on this GPU's kernels; `host`: the program that uses it as TensorRT does; `target`: this
    GPU, "sm90"."""
    folder = folder / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    _host(report, library, host, folder)
    from normexport.engine import FLAVORS

    for flavor in FLAVORS.values():
        if find_spec(flavor.module) is None:
            report.skipped(flavor.title, f"can't be imported; {flavor.install}")
        elif flavor.targets and target not in flavor.targets:
            report.skipped(flavor.title, f"does not build for {target}")
        else:
            _engines(report, flavor.name, library, folder)


def _host(report: Report, library: Path, host: Path, folder: Path) -> None:
    """Every operator, type and format through the plugin's own enqueue."""
    from engine import plugin_cases

    cases = folder / "cases"
    cases.mkdir(exist_ok=True)
    listed, written = plugin_cases.write(cases)
    done = subprocess.run([str(host), str(library), str(listed)], capture_output=True, text=True)
    if done.returncode:
        report.failed("TensorRT plugin", f"{done.stderr}\nthe last case: {(done.stdout.splitlines() or ['none'])[-1]}")
        return
    faults = plugin_cases.faults(written)
    if faults:
        report.failed("TensorRT plugin", f"{len(faults)} of {len(written)} cases\n" + "\n".join(faults[:40]))
    else:
        report.passed("TensorRT plugin", f"{len(written)} cases: every operator, type and format")


def _engines(report: Report, flavor: str, library: Path, folder: Path) -> None:
    """Plans for this GPU: float32 norms judged by parity, int8 ones against the integer reference."""
    from normexport import norms
    from normexport.errors import NormExportError

    for op in norms.live_ops():
        for name, judge in ((op, _judge_floats), (f"Q{op}", _judge_integers)):
            try:
                fault = judge(name, flavor, library, folder)
            except NormExportError as error:
                fault = str(error)
            if fault:
                report.failed(f"{flavor}: {name}", fault)
            else:
                report.passed(f"{flavor}: {name}", "built for this GPU, run, judged")


def _judge_floats(op: str, flavor: str, library: Path, folder: Path) -> str:
    from engine import networks

    import normexport
    from normexport.onnx_export.bodies import attach_bodies
    from normexport.onnx_files import open_onnx, save_onnx

    model = open_onnx(networks.all_norms(folder / "bare.onnx", [op]))
    attach_bodies(model)
    save_onnx(model, folder / "model.onnx")
    judged = normexport.check(folder / "model.onnx", _plan(folder / "model.onnx", flavor, library, folder))
    return "" if judged.passed else str(judged.first_divergence)


def _judge_integers(op: str, flavor: str, library: Path, folder: Path) -> str:
    import numpy as np
    from engine import networks

    path = networks.all_norms(folder / "integers.onnx", [op])
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 8)).astype(np.float32)
    right = networks.all_norms_reference(path, x)
    (y,) = _plan(path, flavor, library, folder).runtime().run({"x": x}).values()
    # the convolution before it is float32 here and there: a value on the edge may be quantised apart
    apart = float(np.mean(y != right))
    return "" if apart < 0.01 else f"{apart:.1%} of the values differ from the integer reference"


def _plan(path: Path, flavor: str, library: Path, folder: Path):
    from normexport.engine import EngineConfig, build_engine
    from normexport.plans import Plan

    config = EngineConfig(flavor=flavor, targets=("current",), plugin_library=library)
    build_engine(path, folder / "model.plan", config)
    return Plan(folder / "model.plan", trust=True)
