"""The TensorRT part of `make gpu-check`: the plugin on the device, and engines built, run and judged there.

The engines need a flavour of TensorRT that can be imported; what is missing is said and skipped.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.plugins.cuda_gpu.gpu_report import Report

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))


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
            _capsule(report, flavor.name, library, folder)
    _addresses(report)


def _host(report: Report, library: Path, host: Path, folder: Path) -> None:
    """Every operator, type and format through the plugin's own enqueue."""
    from tests.engine import plugin_cases

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

    for op in (op for op in norms.live_ops() if "Group" not in op):  # the plugin has no group norms
        for name, judge in ((op, _judge_floats), (f"Q{op}", _judge_integers)):
            try:
                fault = judge(name, flavor, library, folder)
            except NormExportError as error:
                fault = str(error)
            if fault:
                report.failed(f"{flavor}: {name}", fault)
            else:
                report.passed(f"{flavor}: {name}", "built for this GPU, run, judged")


def _capsule(report: Report, flavor: str, library: Path, folder: Path) -> None:
    """A plan judged by a capsule, with those boundaries inside it that are not fused, and a plan of a broken copy."""
    import normexport
    from normexport import capsule
    from normexport.engine import EngineConfig, build_engine
    from normexport.errors import NormExportError
    from tests.capsule import sealed_net

    name = f"{flavor}: capsule"
    config = EngineConfig(flavor=flavor, targets=("current",), plugin_library=library, debug_tensors=True)
    try:
        sealed_net.saved(sealed_net.trained(), folder / "model.pt2")
        how = normexport.ConvertConfig(engine=config, capsule=folder / "c.npz")
        normexport.convert(folder / "model.pt2", folder / "sealed", config=how)
        right = capsule.prove(folder / "c.npz", folder / "sealed" / "model.plan", trust=True)
        wrong_file = sealed_net.broken(folder / "sealed" / "model.onnx", folder / "wrong.onnx", "second", 1.01)
        build_engine(wrong_file, folder / "wrong.plan", config)
        wrong = capsule.prove(folder / "c.npz", folder / "wrong.plan", trust=True)
    except NormExportError as error:
        report.failed(name, str(error))
        return
    seen = [row.path for row in right.layers]
    if not right.judgement.passed or wrong.judgement.verdict.word != "FAILED":
        report.failed(name, f"right: {right.judgement}; wrong: {wrong.judgement}; boundaries seen: {seen}")
    else:
        report.passed(
            name, f"the plan passes, a broken copy fails; boundaries seen inside: {', '.join(seen) or 'none'}"
        )


def _addresses(report: Report) -> None:
    """What an address on the GPU holds is copied out of its memory, type by type."""
    import numpy as np
    import torch

    from normexport.runtime.gpu_memory import gpu_memory
    from normexport.runtime.tensorrt_debug import array_at

    memory = gpu_memory()
    stream, faults = torch.cuda.current_stream().cuda_stream, []
    for dtype in ("float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"):
        tensor = (torch.arange(24, device="cuda").reshape(2, 3, 4) % 5).to(getattr(torch, dtype))
        host = (tensor.float() if dtype == "bfloat16" else tensor).cpu().numpy()
        array = array_at(tensor.data_ptr(), (2, 3, 4), dtype, stream, memory)
        if array is None or array.dtype != host.dtype or not np.array_equal(array, host):
            faults.append(dtype)
    if faults:
        report.failed("debug tensors", f"are read wrongly from the GPU's memory: {', '.join(faults)}")
    else:
        report.passed("debug tensors", "read from the GPU's memory in 8 types")


def _judge_floats(op: str, flavor: str, library: Path, folder: Path) -> str:
    import normexport
    from normexport.io.onnx_model import open_onnx, save_onnx
    from normexport.norms.bodies import attach_bodies
    from tests.engine import networks

    model = open_onnx(networks.all_norms(folder / "bare.onnx", [op]))
    attach_bodies(model)
    save_onnx(model, folder / "model.onnx")
    judged = normexport.check(folder / "model.onnx", _plan(folder / "model.onnx", flavor, library, folder))
    return "" if judged.passed else str(judged.first_divergence)


def _judge_integers(op: str, flavor: str, library: Path, folder: Path) -> str:
    import numpy as np

    from tests.engine import networks

    path = networks.all_norms(folder / "integers.onnx", [op])
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 8)).astype(np.float32)
    right = networks.all_norms_reference(path, x)
    (y,) = _plan(path, flavor, library, folder).runtime().run({"x": x}).values()
    # the convolution before it is float32 here and there: a value on the edge may be quantised apart
    apart = float(np.mean(y != right))
    return "" if apart < 0.01 else f"{apart:.1%} of the values differ from the integer reference"


def _plan(path: Path, flavor: str, library: Path, folder: Path) -> Any:
    from normexport.engine import EngineConfig, build_engine
    from normexport.runtime.tensorrt_runtime import Plan

    config = EngineConfig(flavor=flavor, targets=("current",), plugin_library=library)
    build_engine(path, folder / "model.plan", config)
    return Plan(folder / "model.plan", trust=True)
