"""Accuracy, SNR, size and latency of every example checkpoint in float32, float16, bfloat16 and int8.

Calibrated on 512 training images, judged on the 1,000 test images, which no network has seen. Latency: ONNX Runtime,
batch 64; of float16 none is given, as its CPU computes such files in float32.

python benchmarks/precision_examples.py [--method METHOD] [--effort none|standard|high] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples import data, index
from normexport import onnx_export
from normexport.checkpoint import load
from normexport.errors import NormExportError
from normexport.folding import fold
from normexport.onnx_export import parse_inputs
from normexport.precision import Half, Int8
from normexport.precision.int8.sensitivity import latency_ms
from normexport.precision.reduce import Judged, Reduced, reduce_precision
from normexport.runtime import OnnxRuntime
from normexport.verbs.fold import FOLDING

CONFIGS = {"float16": Half(), "bfloat16": Half("bfloat16"), "int8": None, "int8 symmetric": None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--method", default="mse")
    parser.add_argument("--effort", default="none")
    options = parser.parse_args()
    train, test = data.load()
    print("| checkpoint | precision | accuracy | drop | SNR dB | kB | ms | kept in float32 |")
    print("|---" * 8 + "|")
    failed = 0
    for name, entry in index.read().items():
        if options.names and name not in options.names:
            continue
        keywords = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
        checkpoint = load(index.CHECKPOINTS / name, **keywords)
        exported = onnx_export.export(checkpoint, parse_inputs([entry["input"]]) if entry["input"] else ())
        folded = fold(exported.model, FOLDING).model
        key = exported.inputs[0].name
        judged = Judged({key: test.input}, test.labels)
        feeds = {key: test.input[:64]}
        source = checkpoint.program if checkpoint.program is not None else checkpoint.model
        print(
            row(name, "float32", f"{entry['accuracy']:.1%}", "", "", folded, latency_ms(OnnxRuntime(folded), feeds), "")
        )
        for words, half in CONFIGS.items():
            symmetric = words.endswith("symmetric")
            samples = None if options.method == "norms" else list(train.input[:512])
            config = half or Int8(
                calibration=samples, method=options.method, batch=64, symmetric=symmetric, effort=options.effort
            )
            try:
                reduced = reduce_precision(
                    folded, config, exported.inputs, judged=judged, source=source, layers=exported.layers
                )
            except NormExportError as error:  # by norms, of a network that has none
                failed += 1
                print(f"| {name} | {words} | {error} |", flush=True)
                continue
            failed += not good(reduced)
            print(described(name, words, reduced, feeds), flush=True)
    print(f"\n{failed} out of their targets (drop 0.1 and 55 dB in float16, 0.5 and 24 dB in int8)")
    return 1 if failed else 0


def good(reduced: Reduced) -> bool:
    accuracy = reduced.precision.accuracy
    assert accuracy is not None
    assert accuracy.drop is not None
    assert accuracy.snr_db is not None
    drop, snr = {"float16": (0.1, 55.0), "bfloat16": (0.5, 25.0), "int8": (0.5, 24.0)}[reduced.precision.dtype]
    return reduced.precision.passed and accuracy.drop <= drop + 1e-9 and accuracy.snr_db >= snr


def described(name: str, words: str, reduced: Reduced, feeds: dict[str, np.ndarray]) -> str:
    accuracy = reduced.precision.accuracy
    assert accuracy is not None
    kept = ", ".join(each.path for each in reduced.precision.kept)
    latency = latency_ms(OnnxRuntime(reduced.model), feeds) if reduced.precision.dtype == "int8" else None
    share, drop, snr = f"{accuracy.accuracy:.1%}", f"{accuracy.drop:+.1f}", f"{accuracy.snr_db:.1f}"
    return row(name, words, share, drop, snr, reduced.model, latency, kept)


def row(
    name: str, words: str, share: str, drop: str, snr: str, model: ir.Model, latency: float | None, kept: str
) -> str:
    size = len(ir.to_proto(model).SerializeToString()) / 1000
    milliseconds = "" if latency is None else f"{latency:.1f}"
    return f"| {name.partition('.')[0]} | {words} | {share} | {drop} | {snr} | {size:.0f} | {milliseconds} | {kept} |"


if __name__ == "__main__":
    sys.exit(main())
