"""Quantise one file with one tool, in a process of its own whose Python has that tool; says what it took as JSON.

python quantise.py CANDIDATE float32.onnx calibration.npz int8.onnx

Nothing of this package is imported here: the tools live in environments of their own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


def single_samples(samples: Arrays) -> Iterator[Arrays]:
    """One sample at a time."""
    count = len(next(iter(samples.values())))
    return ({name: array[index : index + 1] for name, array in samples.items()} for index in range(count))


# ---- ONNX Runtime


def onnxruntime(source: Path, samples: Arrays, target: Path, *, method: str = "", per_channel: bool = False) -> str:
    """quantize_static on what its own preprocessing makes of the file; by default all of its defaults."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(q.CalibrationDataReader):  # type: ignore[misc, name-defined, unused-ignore]  # no types
        def __init__(self) -> None:
            self.samples = single_samples(samples)

        def get_next(self) -> Arrays | None:
            return next(self.samples, None)

    prepared = target.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(str(source), str(prepared))
        given, note = prepared, ""
    except Exception as error:  # its shape inference knows only some graphs: its documents say to leave it out then
        given, note = source, f"without its preprocessing: {repr(error).splitlines()[0][:80]}"
    keywords: dict[str, Any] = {}
    if method:
        keywords = {"calibrate_method": q.CalibrationMethod[method], "activation_type": q.QuantType.QUInt8}
    q.quantize_static(
        str(given), str(target), Reader(), per_channel=per_channel, quant_format=q.QuantFormat.QDQ, **keywords
    )
    prepared.unlink(missing_ok=True)
    return note


# ---- NNCF


def nncf(source: Path, samples: Arrays, target: Path, *, accurate: bool = False) -> str:
    """nncf.quantize on its ONNX backend; accurate: the mixed preset with the slow correction of biases."""
    import nncf as tool
    import onnx

    count = len(next(iter(samples.values())))
    dataset = tool.Dataset(list(single_samples(samples)))
    keywords = {"preset": tool.QuantizationPreset.MIXED, "fast_bias_correction": False} if accurate else {}
    onnx.save(tool.quantize(onnx.load(source), dataset, subset_size=count, **keywords), target)
    return ""


# ---- ModelOpt


def modelopt(source: Path, samples: Arrays, target: Path, *, method: str) -> str:
    """modelopt.onnx.quantization.quantize, calibrated on the CPU."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(source),
        quantize_mode="int8",
        calibration_data=samples,
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(target),
        log_level="ERROR",
    )
    return ""


# ---- Quark


def quark(source: Path, samples: Arrays, target: Path, *, preset: str) -> str:
    """quark.onnx.ModelQuantizer with one of its own presets."""
    from onnxruntime.quantization import CalibrationDataReader
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]  # no types
        def __init__(self) -> None:
            self.samples = single_samples(samples)

        def get_next(self) -> Arrays | None:
            return next(self.samples, None)

    config = Config(global_quant_config=get_default_config(preset))
    ModelQuantizer(config).quantize_model(str(source), str(target), Reader())
    return ""


# ---- ours


def ours(source: Path, samples: Arrays, target: Path, *, effort: str = "standard", method: str = "mse") -> str:
    """What `convert --precision int8 --calibration-data` does; a quarter of the samples chooses the edits."""
    import onnx_ir as ir

    from normexport.onnx_export import InputSpec
    from normexport.precision import Int8, reduce_precision

    inputs = tuple(InputSpec(name, array.shape[1:]) for name, array in samples.items())
    batch = 8 if next(iter(samples.values()))[0].size > 5000 else 64
    if method == "norms":
        config = Int8(method="norms", min_snr=-np.inf)
    else:
        (array,) = samples.values()
        config = Int8(calibration=list(array), method=method, batch=batch, effort=effort, min_snr=-np.inf)
    reduced = reduce_precision(ir.load(source), config, inputs)
    ir.save(reduced.model, target)
    found = reduced.precision
    notes = [f"{edit.name}: {edit.before_db:.1f} to {edit.after_db:.1f} dB" for edit in found.edits
             if edit.kept and edit.before_db is not None and edit.after_db is not None]  # fmt: skip
    return "; ".join([*notes, *([f"{len(found.kept)} modules in float32"] if found.kept else [])])


Run = Callable[..., str]
#: By candidate: the tool, what it is called with, and the packages whose versions are told.
CANDIDATES: dict[str, tuple[Run, dict[str, Any], tuple[str, ...]]] = {
    "ort default": (onnxruntime, {}, ("onnxruntime",)),
    "ort minmax": (onnxruntime, {"method": "MinMax", "per_channel": True}, ("onnxruntime",)),
    "ort percentile": (onnxruntime, {"method": "Percentile", "per_channel": True}, ("onnxruntime",)),
    "ort entropy": (onnxruntime, {"method": "Entropy", "per_channel": True}, ("onnxruntime",)),
    "nncf default": (nncf, {}, ("nncf", "onnxruntime")),
    "nncf accurate": (nncf, {"accurate": True}, ("nncf", "onnxruntime")),
    "modelopt entropy": (modelopt, {"method": "entropy"}, ("nvidia-modelopt",)),
    "modelopt max": (modelopt, {"method": "max"}, ("nvidia-modelopt",)),
    "quark a8w8": (quark, {"preset": "A8W8"}, ("amd-quark", "onnxruntime")),
    "quark adaround": (quark, {"preset": "A8W8_ADAROUND"}, ("amd-quark", "onnxruntime")),
    "ours norms": (ours, {"method": "norms"}, ("onnxruntime",)),
    "ours none": (ours, {"effort": "none"}, ("onnxruntime",)),
    "ours standard": (ours, {}, ("onnxruntime",)),
    "ours high": (ours, {"effort": "high"}, ("onnxruntime",)),
}


def main() -> None:
    candidate, source, data, target = sys.argv[1:5]
    run, keywords, packages = CANDIDATES[candidate]
    samples = dict(np.load(data))
    start, processor = time.perf_counter(), time.process_time()
    note = run(Path(source), samples, Path(target), **keywords)
    taken, used = time.perf_counter() - start, time.process_time() - processor
    status = Path("/proc/self/status").read_text()
    most = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = {
        "tool": {name: version(name) for name in packages},
        "seconds": taken,
        "processor_seconds": used + children.ru_utime + children.ru_stime,
        "megabytes": most,
        "note": note,
    }
    sys.stdout.flush()
    os.write(1, f"\n{json.dumps(row)}\n".encode())


if __name__ == "__main__":
    main()
