"""Does `bisect` find seeded faults? Five kinds in networks up to a ResNet-50, each judged by the script that it emits.

A fault counts as found where the part has at most 5 nodes, the changed node is among them, and `python show.py`, in a
process of its own, ends with 1. A change that does not show in an output is drawn anew.

    python benchmarks/bisect_faults.py [--faults 30] [--first 0] [--size 64] [--seed 0]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from candidates.networks import network

import normexport
from normexport.errors import NormExportError
from normexport.folding import fold
from normexport.io.onnx_model import save_onnx
from normexport.nn import L1BatchNorm2d
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from normexport.runtime import OnnxRuntime
from tests.models.resnet import resnet50

_TRIES = 40
_MOST_NODES = 5

#: Reference, candidate, and the output of the node that was changed.
Seeded = tuple[ir.Model, ir.Model, str]


class Difference(nn.Module):
    """Operators whose inputs can't be swapped: a difference, a quotient, a power, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 8, 8) -> (N, 10)."""
        a, b = self.first(x), self.second(x)
        apart = torch.relu(a - b)
        share = (apart + 1.0) / (torch.relu(b) + 2.0)
        power = (apart + 1.0) ** torch.sigmoid(a)
        found: torch.Tensor = self.last(torch.cat([share, power], 1))
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="number of the first fault")
    parser.add_argument("--size", type=int, default=64, help="of the ResNet-50's images")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    models = models_of(options.size)
    kinds: Mapping[str, tuple[Callable[[ir.Model, np.random.Generator], Seeded | None], tuple[str, ...]]] = {
        # The classifier's second ReLU is 0 for all random inputs: no weight of it shows in an output.
        "weight": (wrong_weight, tuple(name for name in models if name != "classifier")),
        "inputs": (swapped_inputs, ("difference",)),
        "pad": (wrong_pad, tuple(name for name in models if name not in ("attention", "classifier"))),
        "overflow": (overflow, ("resnet50", "classifier", "residual", "difference")),
        "zero point": (wrong_zero_point, ("resnet50", "classifier", "segmentation", "residual")),
    }
    found = 0
    for number in range(options.first, options.first + options.faults):
        kind = list(kinds)[number % len(kinds)]
        make, names = kinds[kind]
        name = names[(number // len(kinds)) % len(names)]
        rng = np.random.default_rng([options.seed, number])
        began = time.perf_counter()
        good, words = one(make, models[name], rng)
        found += good
        print(f"{number:3} {kind:10} {name:12} {time.perf_counter() - began:6.1f} s  {words}", flush=True)
    print(f"found {found} of {options.faults}")
    return 0 if found == options.faults else 1


def models_of(size: int) -> dict[str, ir.Model]:
    """Folded float32 models; norms of the ResNet-50 have the statistics of their inputs."""
    big = resnet50(lambda channels: L1BatchNorm2d(channels, momentum=1.0))
    with torch.no_grad():
        big.train()(torch.randn(8, 3, size, size))
    nets = {"resnet50": normexport.export(big.eval(), [f"3x{size}x{size}"]).model}
    nets["difference"] = normexport.export(Difference().eval(), ["3x8x8"]).model
    nets |= {kind: network(kind, 0).model for kind in ("classifier", "residual", "segmentation", "attention", "u-net")}
    return {name: fold(model).model for name, model in nets.items()}


def one(
    make: Callable[[ir.Model, np.random.Generator], Seeded | None], model: ir.Model, rng: np.random.Generator
) -> tuple[bool, str]:
    """Whether a fault of one kind is found, and what is said of it."""
    for _ in range(_TRIES):
        seeded = make(model, rng)
        if seeded is not None and shows(*seeded[:2]):
            break
    else:
        return False, "no place for it that shows"
    reference, candidate, changed = seeded
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_onnx(reference, folder / "reference.onnx")
        save_onnx(candidate, folder / "candidate.onnx")
        try:
            data = folder / "data.npz" if make is wrong_zero_point else None
            if data is not None:
                parts = calibration(model)
                arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
                np.savez(data, **arrays)
            files = folder / "reference.onnx", folder / "candidate.onnx"
            result = normexport.bisect(*files, folder / "out", data=data)
        except NormExportError as error:
            return False, f"{changed}: {error}"
        if result.fault is None:
            return False, f"{changed}: not found ({'; '.join(result.judgement.reasons)})"
        run = subprocess.run(
            [sys.executable, "show.py"], cwd=folder / "out", capture_output=True, text=True, check=False
        )
        fault = result.fault
        made = outputs_in(folder / "out" / "bisect.onnx")
        good = run.returncode == 1 and len(fault.nodes) <= _MOST_NODES and changed in made
        shapes = " ".join("x".join(map(str, shape)) for shape in fault.shapes)
        said = (run.stderr.strip().splitlines() or ["shows nothing"])[-1]
        missed = "" if changed in made else f"; it makes {sorted(made)}"
        words = f"{len(fault.nodes)} nodes ({', '.join(fault.operators)}), input {shapes}; {said}{missed}"
        return good, f"{'ok ' if good else 'BAD'} {changed}: {words}"


def outputs_in(path: Path) -> set[str]:
    """What the nodes of a file make."""
    model = ir.load(path)
    return {str(value.name).removesuffix("/raw") for node in model.graph for value in node.outputs}


def shows(reference: ir.Model, candidate: ir.Model) -> bool:
    """Whether an output changes by more than a part in a hundred, or is no number."""
    from normexport.precision.half.rounding import rounding_in_float32
    from normexport.proof import choose_batches, input_specs

    specs = input_specs(reference, (), {})
    feeds = choose_batches(specs, sizes=(2,), graph=reference).batches[0].feeds
    try:
        exact = OnnxRuntime(reference).run(feeds)
        got = OnnxRuntime(rounding_in_float32(candidate)).run(feeds)
    except NormExportError:
        return False
    return any(
        not np.abs(got[name] - exact[name]).max() <= 0.01 * np.abs(exact[name]).max()
        for name in exact
        if exact[name].size
    )


def wrong_weight(model: ir.Model, rng: np.random.Generator) -> Seeded | None:
    """One number of one weight, off by three times the largest."""
    copy = model.clone()
    nodes = [n for n in copy.graph if n.op_type in ("Conv", "Gemm", "MatMul") and weight(n) is not None]
    node = nodes[rng.integers(len(nodes))]
    value = weight(node)
    assert value is not None
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array.reshape(-1)[rng.integers(array.size)] += 3 * np.abs(array).max()
    value.const_value = ir.Tensor(array, name=value.name)
    return model, copy, str(node.outputs[0].name)


def weight(node: ir.Node) -> ir.Value | None:
    """The weight of a node, where it is its own."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return value if value is not None and value.const_value is not None and len(value.uses()) == 1 else None


def swapped_inputs(model: ir.Model, rng: np.random.Generator) -> Seeded | None:
    """The inputs of an operator that does not commute."""
    copy = model.clone()
    nodes = [n for n in copy.graph if n.op_type in ("Sub", "Div", "Pow", "Concat")]
    node = nodes[rng.integers(len(nodes))]
    first, second = node.inputs[:2]
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)
    return model, copy, str(node.outputs[0].name)


def wrong_pad(model: ir.Model, rng: np.random.Generator) -> Seeded | None:
    """One more row at the top, one fewer at the bottom."""
    copy = model.clone()
    nodes = [n for n in copy.graph if n.op_type == "Conv" and any(n.attributes.get_ints("pads", []))]
    if not nodes:
        return None
    node = nodes[rng.integers(len(nodes))]
    pads = list(node.attributes.get_ints("pads", []))
    half = len(pads) // 2
    pads[0], pads[half] = pads[0] + 1, pads[half] - 1
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    return model, copy, str(node.outputs[0].name)


def overflow(model: ir.Model, rng: np.random.Generator) -> Seeded | None:
    """A convolution whose output is beyond float16, and a factor behind it that takes it back."""
    reference = model.clone()
    nodes = [n for n in reference.graph if n.op_type == "Conv" and weight(n) is not None]
    node = nodes[rng.integers(len(nodes))]
    value, output = weight(node), node.outputs[0]
    assert value is not None
    assert value.const_value is not None
    if output.is_graph_output():
        return None
    array = value.const_value.numpy()
    factor = np.float32(2.0 ** np.floor(np.log2(30000 / np.abs(array).max())))
    value.const_value = ir.Tensor(array * factor, name=value.name)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.const_value is not None:
        bias.const_value = ir.Tensor(bias.const_value.numpy() * 0, name=bias.name)
    inverse = ir.Value(
        name="inverse",
        const_value=ir.Tensor(np.float32(1 / factor), name="inverse"),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape([]),
    )
    reference.graph.register_initializer(inverse)
    uses = list(output.uses())
    back = ir.Node("", "Mul", [output, inverse], name="take_back")
    back.outputs[0].name, back.outputs[0].type = "taken_back", ir.TensorType(ir.DataType.FLOAT)
    for use in uses:
        use.node.replace_input_with(use.idx, back.outputs[0])
    reference.graph.insert_after(node, back)
    return reference, in_half(reference), str(output.name)


def in_half(model: ir.Model) -> ir.Model:
    """All of it in float16 but its inputs and outputs, as converters do that look at no number."""
    copy = model.clone()
    graph, wide, narrow = copy.graph, ir.DataType.FLOAT, ir.DataType.FLOAT16
    for value in [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]:
        tensor = value.const_value
        if tensor is not None and tensor.dtype == wide:
            value.const_value = ir.Tensor(tensor.numpy().astype(np.float16), name=value.name)
        if value.dtype == wide:
            value.type = ir.TensorType(narrow)
    for value in graph.inputs:
        if value.dtype == wide:
            cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(narrow))])
            cast.outputs[0].name, cast.outputs[0].type = f"{value.name}/half", ir.TensorType(narrow)
            for use in list(value.uses()):
                if use.node is not cast:
                    use.node.replace_input_with(use.idx, cast.outputs[0])
            graph.insert_before(graph[0], cast)
    for index, value in enumerate(list(graph.outputs)):
        name = value.name
        cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(wide))])
        value.name = f"{name}/half"
        cast.outputs[0].name, cast.outputs[0].type, cast.outputs[0].shape = name, ir.TensorType(wide), value.shape
        graph.append(cast)
        graph.outputs[index] = cast.outputs[0]
    return copy


def calibration(model: ir.Model) -> list[dict[str, np.ndarray]]:
    """What an int8 file is calibrated on, and judged on."""
    from normexport.proof import choose_batches, input_specs

    specs = input_specs(model, (), {})
    batches = [choose_batches(specs, sizes=(4,), seed=seed, graph=model).batches[0].feeds for seed in range(4)]
    return [{name: array.astype(np.float32) for name, array in batch.items()} for batch in batches]


def wrong_zero_point(model: ir.Model, rng: np.random.Generator) -> Seeded | None:
    """One zero point of an activation, off by a sixth of its range."""
    copy = quantize(model, calibrate(model, calibration(model)).ranges).model
    nodes = [
        n
        for n in copy.graph
        if n.op_type == "DequantizeLinear" and len(n.inputs) > 2 and n.inputs[0] and n.inputs[0].const_value is None
    ]
    node = nodes[rng.integers(len(nodes))]
    zero = node.inputs[2]
    assert zero is not None
    assert zero.const_value is not None
    array = zero.const_value.numpy().astype(np.int64)
    limits = np.iinfo(zero.const_value.dtype.numpy())
    array = np.where(array > (limits.min + limits.max) // 2, array - 40, array + 40).astype(limits.dtype)
    new = ir.Value(
        name="wrong_zero",
        const_value=ir.Tensor(array, name="wrong_zero"),
        type=ir.TensorType(zero.const_value.dtype),
        shape=ir.Shape(array.shape),
    )
    copy.graph.register_initializer(new)
    node.replace_input_with(2, new)
    return model, copy, str(node.outputs[0].name)


if __name__ == "__main__":
    sys.exit(main())
