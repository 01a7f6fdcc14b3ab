"""A strongly typed plan of every example checkpoint in float16, int8 and fp8, and what its manifest says.

Each is converted as `normexport convert FILE --precision P --data ... --engine --target sm89 --target sm120` does, int8
and fp8 calibrated on 64 training images and judged on 1,000 test images; what is not in eight bits is float16.
Convolutions, matrix products and live norms of the ONNX file are counted; the manifest must hold exactly as many in
that precision, and none in another but what stays float16 in eight bits: transposed convolutions of several groups,
modules left out so that the limit holds, and in fp8 live norms.

python benchmarks/precision_plans.py [--precision P ...] [--plugin-library FILE] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import normexport
from examples import data, index
from normexport.checkpoint import load
from normexport.engine import EngineConfig
from normexport.errors import NormExportError
from normexport.precision import Fp8, Half, Int8

MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
EIGHT_BITS = {"int8": Int8, "float8_e4m3fn": Fp8}
PRECISIONS = ("float16", *EIGHT_BITS)
COMPUTING = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "PLUGIN_V3")
TARGETS = ("sm89", "sm120")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="files of examples/checkpoints; default: all")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--plugin-library", type=Path, help="for live norms; without it they are built from bodies")
    options = parser.parse_args()
    engine = EngineConfig(
        targets=TARGETS, plugins=options.plugin_library is not None, plugin_library=options.plugin_library
    )
    train, test = data.load()
    print("| checkpoint | precision | SNR dB | drop | computing layers | others give | plugins | kB | s | |")
    print("|---" * 10 + "|")
    failed = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        judged = Path(folder) / "judged.npz"
        np.savez(judged, input=test.input, labels=test.labels)
        for name, entry in index.read().items():
            for precision in options.precision or PRECISIONS if not options.names or name in options.names else ():
                samples = list(train.input[:64]) if precision in EIGHT_BITS else []
                start = time.perf_counter()
                done, wrong = plan(name, entry, precision, samples, judged, engine, Path(folder))
                tried, failed = tried + 1, failed + bool(wrong)
                cells = [name.partition(".")[0], precision, *described(done)]
                cells += [f"{time.perf_counter() - start:.0f}", wrong or "as asked"]
                print(f"| {' | '.join(cells)} |")
                sys.stdout.flush()
    print(f"\n{tried} plans tried, {failed} not as asked")
    return 1 if failed or not tried else 0


def plan(
    name: str,
    entry: dict[str, Any],
    precision: str,
    samples: list[np.ndarray],
    judged: Path,
    engine: EngineConfig,
    folder: Path,
) -> tuple[normexport.Conversion | None, str]:
    """The conversion of one checkpoint, and what is wrong with its plan ("": nothing)."""
    keywords = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
    how = Half() if precision == "float16" else EIGHT_BITS[precision](samples, batch=64)
    config = normexport.ConvertConfig(data=judged, engine=engine, precision=how)
    output = folder / f"{name}-{precision}"
    try:
        checkpoint = load(index.CHECKPOINTS / name, **keywords)
        done = normexport.convert(checkpoint, output, [entry["input"]] if entry["input"] else (), config)
    except NormExportError as error:
        return None, str(error)
    if done.engine is None or not done.passed:
        return done, f"no plan: {'; '.join(done.judgement.reasons)}"
    nodes = onnx.load(output / "model.onnx").graph.node
    plugins = sum(node.domain == "normexport" for node in nodes) if engine.plugins else 0
    live = plugins if precision == "float8_e4m3fn" else 0
    grouped = sum(node.op_type == "ConvTranspose" and groups(node) > 1 for node in nodes)
    kept = 0 if done.precision is None else len(done.precision.kept)  # a module is one layer here
    beside = (grouped + kept if precision in EIGHT_BITS else 0) + live
    wanted = {precision: sum(node.op_type in MULTIPLYING for node in nodes) + plugins - beside}
    wanted |= {"float16": beside} if beside else {}
    wrong = "" if dict(done.engine.precision) == wanted else f"expected {wanted}"
    if len(done.engine.plugins) != plugins:
        wrong = f"{len(done.engine.plugins)} plugins instead of {plugins}"
    return done, wrong


def described(done: normexport.Conversion | None) -> list[str]:
    """SNR, drop, layers by precision, other layers by type of result, plugins and kB; empty where there is no plan."""
    accuracy = None if done is None or done.precision is None else done.precision.accuracy
    told = ["", ""] if accuracy is None else [f"{accuracy.snr_db:.1f}", f"{accuracy.drop:+.1f}"]
    if done is None or done.engine is None:
        return [*told, "", "", "", ""]
    manifest = done.engine
    layers = ", ".join(f"{number} {kind}" for kind, number in manifest.precision.items())
    gives = Counter(layer.dtype for layer in manifest.layers if layer.type not in ("CONSTANT", *COMPUTING))
    every = ", ".join(f"{number} {kind}" for kind, number in gives.most_common())
    return [*told, layers, every, str(len(manifest.plugins)), f"{manifest.plan.bytes / 1000:.0f}"]


def groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


if __name__ == "__main__":
    sys.exit(main())
