"""A strongly typed plan of every example checkpoint in float16 and int8, and what its manifest says it computes in.

Each is converted as `normexport convert FILE --precision P --data ... --engine --target sm89` does, int8 calibrated on
64 training images and judged on 1,000 test images. Convolutions, matrix products and live norms of the ONNX file are
counted; the manifest must hold exactly as many in that precision, and none in another but the transposed convolutions
of several groups, which stay float32 in int8.

python benchmarks/precision_plans.py [--precision P ...] [--plugin-library FILE] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import normexport  # noqa: E402
from examples import data, index  # noqa: E402
from normexport.checkpoint import load  # noqa: E402
from normexport.engine import EngineConfig  # noqa: E402
from normexport.errors import NormExportError  # noqa: E402
from normexport.precision import Half, Int8  # noqa: E402

MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PRECISIONS = ("float16", "int8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="files of examples/checkpoints; default: all")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--plugin-library", type=Path, help="for live norms; without it they are built from bodies")
    options = parser.parse_args()
    engine = EngineConfig(
        targets=("sm89",), plugins=options.plugin_library is not None, plugin_library=options.plugin_library
    )
    train, test = data.load()
    print("| checkpoint | precision | computing layers | plugins | kB | s | |")
    print("|---" * 7 + "|")
    failed = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        judged = Path(folder) / "judged.npz"
        np.savez(judged, input=test.input, labels=test.labels)
        for name, entry in index.read().items():
            for precision in options.precision or PRECISIONS if not options.names or name in options.names else ():
                samples = list(train.input[:64]) if precision == "int8" else []
                start = time.perf_counter()
                counts, plugins, size, wrong = plan(name, entry, precision, samples, judged, engine, Path(folder))
                tried, failed = tried + 1, failed + bool(wrong)
                layers = ", ".join(f"{number} {kind}" for kind, number in counts.items())
                seconds = f"{time.perf_counter() - start:.0f}"
                stem = name.partition(".")[0]
                print(
                    f"| {stem} | {precision} | {layers} | {plugins} | {size:.0f} | {seconds} | {wrong or 'as asked'} |"
                )
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
) -> tuple[dict[str, int], int, float, str]:
    """Layers by precision, plugins and kB of the plan of one checkpoint, and what is wrong with it ("": nothing)."""
    keywords = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
    how = Half() if precision == "float16" else Int8(samples, batch=64)
    config = normexport.ConvertConfig(data=judged, engine=engine, precision=how)
    output = folder / f"{name}-{precision}"
    try:
        checkpoint = load(index.CHECKPOINTS / name, **keywords)
        done = normexport.convert(checkpoint, output, [entry["input"]] if entry["input"] else (), config)
    except NormExportError as error:
        return {}, 0, 0.0, str(error)
    if done.engine is None or not done.passed:
        return {}, 0, 0.0, "the accuracy or parity limit does not hold: no plan"
    nodes = onnx.load(output / "model.onnx").graph.node
    plugins = sum(node.domain == "normexport" for node in nodes) if engine.plugins else 0
    wide = sum(node.op_type == "ConvTranspose" and groups(node) > 1 for node in nodes) if precision == "int8" else 0
    wanted = {precision: sum(node.op_type in MULTIPLYING for node in nodes) + plugins - wide}
    wanted |= {"float32": wide} if wide else {}
    found = dict(done.engine.precision)
    wrong = "" if found == wanted else f"expected {wanted}"
    if len(done.engine.plugins) != plugins:
        wrong = f"{len(done.engine.plugins)} plugins instead of {plugins}"
    return found, len(done.engine.plugins), done.engine.plan.bytes / 1000, wrong


def groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


if __name__ == "__main__":
    sys.exit(main())
