"""Peak memory of the verbs on an ONNX file, in multiples of its weights.

    PYTHONPATH=. python benchmarks/onnx_memory.py [--megabytes 400] [--external] [verb ...]

The network is convolutions with a BatchNormalization each, on images so small that activations are nothing. Memory is
the largest resident set of a process and those that it starts, less that of the same command on a small network.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNELS = 512  # a layer of 3x3 has 9.4 MB

VERBS = {
    "inspect": ["inspect", "{model}"],
    "fold": ["fold", "{model}", "-o", "{out}/folded.onnx"],
    "convert": ["convert", "{model}", "-o", "{out}/fp32"],
    "fp16": ["convert", "{model}", "-o", "{out}/fp16", "--precision", "fp16"],
    "int8": ["convert", "{model}", "-o", "{out}/int8", "--precision", "int8", "--data", "{data}"],
}


def write_files(home: Path, megabytes: int, external: bool) -> None:
    """Write both networks, and images for them."""
    layers = max(2, round(megabytes * 1e6 / (CHANNELS * CHANNELS * 9 * 4)))
    size = write_network(home / "large.onnx", layers, CHANNELS, external)
    write_network(home / "small.onnx", layers, 4, external)
    np.savez(home / "data.npz", x=np.random.default_rng(1).normal(size=(24, 3, 2, 2)).astype(np.float32))
    (home / "size").write_text(str(size))


def write_network(path: Path, layers: int, channels: int, external: bool) -> int:
    """Write the network; returns the bytes of its weights."""
    dice = np.random.default_rng(0)
    nodes, tensors, last = [], [], "x"
    for number in range(layers):
        wide = channels if number else 3
        weight = dice.normal(size=(channels, wide, 3, 3)).astype(np.float32) / np.float32(np.sqrt(9 * wide))
        parts = {"w": weight}
        for name in ("scale", "bias", "mean", "var"):
            parts[name] = dice.uniform(0.5, 1.5, channels).astype(np.float32)
        tensors += [numpy_helper.from_array(array, f"{name}{number}") for name, array in parts.items()]
        norm = [f"{name}{number}" for name in ("scale", "bias", "mean", "var")]
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("BatchNormalization", [f"c{number}", *norm], [f"n{number}"]))
        nodes.append(helper.make_node("Relu", [f"n{number}"], [f"r{number}"]))
        last = f"r{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"]))
    ends = [helper.make_tensor_value_info("x", 1, ["N", 3, 2, 2]), helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    size = sum(len(tensor.raw_data) for tensor in tensors)
    onnx.save(model, path, save_as_external_data=external, location=path.name + ".data")
    return size


def peak(words: list[str]) -> int:
    """Bytes of the largest resident set of a command and of the processes that it starts."""
    command = [sys.executable, "-m", "normexport_cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 7):
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return usage.ru_maxrss * 1024


def main() -> None:
    """Print a line for each verb."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("verbs", nargs="*", default=list(VERBS), metavar="verb")
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--external", action="store_true", help="weights in a file of their own")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # In a process of its own: what a process held when it starts another counts as that one's peak.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_files, args=(home, asked.megabytes, asked.external)
        )
        writer.start()
        writer.join()
        size = int((home / "size").read_text())
        print(f"weights {size / 1e6:.0f} MB, {'external' if asked.external else 'embedded'}")
        for verb in asked.verbs:
            told = []
            for name in ("small", "large"):
                paths = {"model": f"{home}/{name}.onnx", "out": f"{home}/{name}", "data": f"{home}/data.npz"}
                told.append(peak([word.format(**paths) for word in VERBS[verb]]))
            print(f"{verb:<8} {(told[1] - told[0]) / size:4.1f} times the weights", flush=True)


if __name__ == "__main__":
    main()
