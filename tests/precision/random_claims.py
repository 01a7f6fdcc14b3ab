"""What must hold of a random network that was folded or reduced: a valid file, and the right numbers or a word.

The witness is the float64 interpreter on the network as it came. How far a result may be from it:

- fold: 30 times what moving every weight and input by a float32 unit roundoff u changes, and at least 300 u of an
  output's largest number (a fold rounds each constant it makes once);
- half: `FACTOR` times what the network loses that rounds every float32 value to the half type and nothing else, and at
  least `FLOOR` half unit roundoffs; where that network is itself further off than `PROVES_NOTHING`, nothing is judged;
- int8: the SNR that its own judge asks for, or the judge says that it is not reached. An output that has cancelled to
  less than it has on other batches (of two numbers, say) is measured against those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from normexport import norms
from normexport.errors import NormExportError
from normexport.folding import fold
from normexport.precision import Half, Int8, Judged, reduce_precision
from normexport.precision.half.rounding import rounding_in_float32
from normexport.proof.inputs.declared import input_specs
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.precision.random_networks import Network

Arrays = Mapping[str, np.ndarray]

FACTOR, FLOOR, PROVES_NOTHING = 6.0, 16.0, 0.1
ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
HALF = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
NOTHING = 1e-6  # an output this small is what a sum of larger numbers cancelled to
SLACK = 1.0  # dB between the judge's float32 reference and the float64 witness
SAMPLES = 12  # batches to calibrate on


@dataclass(frozen=True)
class Outcome:
    """How it went: "right", "refused", "warned", "unproven"; or "crashed", "invalid", "wrong". And why, in words."""

    kind: str
    why: str = ""

    @property
    def is_bad(self) -> bool:
        return self.kind in ("crashed", "invalid", "wrong")


def judged(network: Network, what: str) -> Outcome:
    """The outcome of one conversion: "fold", "fp16", "fp16-io", "bf16", "int8" or "int8-symmetric"."""
    norms.register_schemas()
    try:
        return CONVERSIONS[what](network)
    except NormExportError as refusal:
        if "can't load it" in str(refusal) or "can't run on" in str(refusal):  # the network itself loads and runs
            return Outcome("invalid", str(refusal))
        return Outcome("refused", str(refusal))
    except Exception as error:  # a crash is what is looked for
        import traceback

        return Outcome("crashed", f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}")


def _fold(network: Network) -> Outcome:
    before = ir.from_proto(network.model)
    result = fold(before)
    if not result.changed:
        return Outcome("right", "nothing to fold")
    proto = ir.to_proto(result.model)
    broken = invalid(proto)
    if broken:
        return Outcome("invalid", broken)
    again = fold(ir.from_proto(proto))
    if again.changed:
        return Outcome("wrong", f"a second fold changes it: {[n.node for n in again.norms if n.fate != 'live']}")
    exact, got = witness(network.model, network.sample), witness(proto, network.sample)
    moved = _moved(network)
    return compared(network, exact, got, moved, 30.0, 300 * ROUNDOFF["float32"])


def _moved(network: Network) -> dict[str, float]:
    """By output, what moving weights and inputs by a unit roundoff changes."""
    rng = np.random.default_rng(1)

    def move(array: np.ndarray) -> np.ndarray:
        signs = rng.choice([-1, 1], array.shape)
        return np.asarray(array * (1 + ROUNDOFF["float32"] * signs), np.float64) if array.dtype.kind == "f" else array

    model = onnx.ModelProto.FromString(network.model.SerializeToString())
    scales = sizes_in_floats(model.graph)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales:
            array = move(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))
    exact = witness(network.model, network.sample)
    got = witness(model, {name: move(array) for name, array in network.sample.items()})
    return {name: off(exact[name], got[name]) for name in exact}


def _half(network: Network, dtype: str, whole: bool) -> Outcome:
    model = ir.from_proto(network.model)
    config = Half(dtype, dtype if whole else "float32")
    specs = input_specs(model)
    data = {spec.name: network.sample[spec.name] for spec in specs}
    reduced = reduce_precision(model, config, specs, judged=Judged(data))
    proto = ir.to_proto(reduced.model)
    broken = invalid(proto, opens=dtype == "float16") or (
        _io_differs(network.model, proto, HALF[dtype]) if whole else ""
    )
    if broken:
        return Outcome("invalid", broken)
    exact = witness(network.model, network.sample)
    baseline = worst_baseline(network, dtype, exact)
    rounded = OnnxRuntime(rounding_in_float32(ir.from_proto(proto)))
    runs = [rounded.run(_fed(rounded, network.sample))]
    if dtype == "float16":
        plain = OnnxRuntime(proto)
        runs.append(plain.run(_fed(plain, network.sample)))
    found = [compared(network, exact, got, baseline, FACTOR, FLOOR * ROUNDOFF[dtype]) for got in runs]
    worst = next((each for each in found if each.is_bad), found[0])
    if worst.kind == "wrong" and not reduced.precision.passed:
        return Outcome("warned", worst.why)
    return worst


def worst_baseline(network: Network, dtype: str, exact: Arrays) -> dict[str, float]:
    """By output, the error of the network that rounds every value; the largest of three inputs a roundoff apart."""
    rng = np.random.default_rng(0)
    runtime = OnnxRuntime(rounding_everywhere(network.model, HALF[dtype]))
    worst = dict.fromkeys(exact, 0.0)
    for step in (0.0, 0.5, 1.0):
        moved = {
            name: (array * (1 + step * ROUNDOFF[dtype] * rng.uniform(-1, 1, array.shape))).astype(array.dtype)
            if array.dtype.kind == "f"
            else array
            for name, array in network.sample.items()
        }
        got = runtime.run(_fed(runtime, moved))
        for name in exact:
            worst[name] = max(worst[name], off(exact[name], got[name]))
    return worst


def rounding_everywhere(model: onnx.ModelProto, half: int) -> onnx.ModelProto:
    """The float32 model with a rounding to `half` behind each float32 value of its main graph, and nothing else."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    floats = {
        info.name
        for info in (*inferred.value_info, *inferred.input, *inferred.output)
        if info.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    floats |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    floats |= {
        name
        for node in graph.node
        if node.op_type == "Constant"
        for name in node.output
        if node.attribute[0].t.data_type == TensorProto.FLOAT
    }
    rounded: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def add(name: str) -> None:
        there, back = f"{name}//half", f"{name}//rounded"
        nodes.append(helper.make_node("Cast", [name], [there], f"{name}//there", to=half))
        nodes.append(helper.make_node("Cast", [there], [back], f"{name}//back", to=TensorProto.FLOAT))
        rounded[name] = back

    scales = sizes_in_floats(graph)
    for name in dict.fromkeys((*(v.name for v in graph.input), *(t.name for t in graph.initializer))):
        if name in floats and name not in scales:
            add(name)
    for node in graph.node:
        node.input[:] = [rounded.get(name, name) for name in node.input]
        _reread(node, rounded)
        nodes.append(node)
        for name in node.output:
            if name in floats:
                add(name)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    # An output is what is rounded, under its own name; what is rounded gets another one. Inputs and constants that are
    # outputs stay what they are.
    given = {value.name for value in (*graph.input, *graph.initializer)}
    made = [info.name for info in graph.output if info.name in rounded and info.name not in given]
    names = {name: f"{name}//raw" for name in made} | {rounded[name]: name for name in made}
    for node in graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]
        _reread(node, names)
    return copy


def sizes_in_floats(graph: onnx.GraphProto) -> set[str]:
    """What Resize reads beside its data: from a scale that moves a little follows another size."""
    return {name for node in graph.node if node.op_type in ("Resize", "Upsample") for name in node.input[1:]}


def _reread(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                inner.input[:] = [names.get(name, name) for name in inner.input]


def _io_differs(before: onnx.ModelProto, after: onnx.ModelProto, half: int) -> str:
    """Whether names or types of inputs and outputs are not those that were asked for."""
    for old, new in zip(
        (*before.graph.input, *before.graph.output), (*after.graph.input, *after.graph.output), strict=True
    ):
        elem = old.type.tensor_type.elem_type
        wanted = half if elem == TensorProto.FLOAT else elem
        if old.name != new.name or new.type.tensor_type.elem_type != wanted:
            return f"'{old.name}' is now '{new.name}' of type {new.type.tensor_type.elem_type}, not {wanted}"
    return ""


def _int8(network: Network, symmetric: bool) -> Outcome:
    model = ir.from_proto(network.model)
    specs = input_specs(model)
    rng = np.random.default_rng(5)
    samples = []
    batch = max((len(network.sample[spec.name]) for spec in specs if spec.batched), default=1)
    for _ in range(SAMPLES * batch):
        each = {}
        for spec in specs:
            array = network.sample[spec.name][0] if spec.batched else network.sample[spec.name]
            floating = array.dtype.kind == "f"
            each[spec.name] = rng.standard_normal(array.shape).astype(np.float32) if floating else array
        samples.append(each)
    data = {spec.name: network.sample[spec.name] for spec in specs}
    config = Int8(calibration=samples, method="minmax", symmetric=symmetric, batch=batch)
    reduced = reduce_precision(model, config, specs, judged=Judged(data))
    proto = ir.to_proto(reduced.model)
    broken = invalid(proto)
    if broken:
        return Outcome("invalid", broken)
    exact = witness(network.model, network.sample)
    runtime = OnnxRuntime(reduced.model)
    got = runtime.run(_fed(runtime, network.sample))
    floats = [name for name in exact if exact[name].dtype.kind == "f" and np.abs(exact[name]).max() > NOTHING]
    ratios = {name: snr(exact[name], got[name]) for name in floats}
    strange = next((n for n in exact if got[n].shape != exact[n].shape or not np.isfinite(got[n]).all()), None)
    if strange is not None:
        return Outcome(
            "wrong", f"'{strange}' has shape {got[strange].shape} for {exact[strange].shape}, or is not finite"
        )
    low = {name: round(ratio, 1) for name, ratio in ratios.items() if ratio < 25.0 - SLACK}
    if low:
        stacked = [np.stack([each[spec.name] for each in samples]) for spec in specs]
        usual = _usual_power(network, {spec.name: array for spec, array in zip(specs, stacked, strict=True)}, batch)
        low = {name: ratio for name, ratio in low.items() if snr(exact[name], got[name], usual[name]) < 25.0 - SLACK}
    if not low:
        return Outcome("right")
    return Outcome("wrong" if reduced.precision.passed else "warned", f"SNR {low}")


def _usual_power(network: Network, samples: Arrays, batch: int) -> dict[str, float]:
    """By output, the mean square over some batches of the calibration's samples."""
    batched = {spec.name: spec.batched for spec in input_specs(ir.from_proto(network.model))}
    powers: dict[str, list[float]] = {}
    for start in range(0, 4 * batch, batch):
        feeds = {
            name: array[start : start + batch] if batched[name] else array[start] for name, array in samples.items()
        }
        for name, value in witness(network.model, feeds).items():
            powers.setdefault(name, []).append(float(np.square(value.astype(np.float64)).mean()))
    return {name: float(np.mean(values)) for name, values in powers.items()}


def snr(exact: np.ndarray, got: np.ndarray, usual: float = 0.0) -> float:
    """In dB, of the output's mean square, or of a `usual` one where that is larger; infinite where nothing is off."""
    error = float(np.square(got.astype(np.float64) - exact).mean())
    power = max(float(np.square(exact).mean()), usual, 1e-300)
    return float("inf") if error == 0 else 10 * float(np.log10(power / error))


def compared(
    network: Network, exact: Arrays, got: Arrays, baseline: Mapping[str, float], factor: float, floor: float
) -> Outcome:
    """Right, wrong, or unproven: outputs by name, errors relative to each output's largest number."""
    unproven = ""
    for name, reference in exact.items():
        array = got[name]
        if array.shape != reference.shape:
            return Outcome("wrong", f"'{name}' has shape {array.shape} for {reference.shape}")
        if baseline[name] > PROVES_NOTHING or network.jumps:
            unproven = unproven or f"'{name}' of a network that is off by {baseline[name]:.2g} itself"
            continue
        if reference.dtype.kind != "f":
            if not np.array_equal(array, reference):
                return Outcome("wrong", f"'{name}' differs")
            continue
        error, bound = off(reference, array), max(factor * baseline[name], floor)
        if not error <= bound:
            return Outcome("wrong", f"'{name}' is off by {error:.3g}, and {bound:.3g} is allowed")
    return Outcome("unproven", unproven) if unproven else Outcome("right")


def off(exact: np.ndarray, got: np.ndarray) -> float:
    """Largest error relative to the largest number; infinite where a number is not finite, or whole numbers differ."""
    if exact.dtype.kind != "f":
        return 0.0 if np.array_equal(exact, got) else float("inf")
    error = np.abs(got.astype(np.float64) - exact).max(initial=0.0)
    if error == 0:
        return 0.0
    return float(error / (np.abs(exact).max() or 1e-30)) if np.isfinite(error) else float("inf")


def witness(model: onnx.ModelProto, sample: Arrays) -> dict[str, np.ndarray]:
    """The outputs in float64."""
    runtime = Float64Runtime(model, torch=False)
    return runtime.run({port.name: sample[port.name] for port in runtime.inputs})


def _fed(runtime: OnnxRuntime, sample: Arrays) -> dict[str, Any]:
    """The sample in the types that the runtime reads."""
    return {port.name: sample[port.name].astype(port.dtype) for port in runtime.inputs}


def invalid(model: onnx.ModelProto, opens: bool = True) -> str:
    """What the checker or ONNX Runtime says against a file; "" where nothing."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker has errors of its own, and those of protobuf
        return f"checker: {str(error).strip().splitlines()[0]}"
    try:
        OnnxRuntime(model) if opens else Float64Runtime(model)
    except NormExportError as error:
        return str(error)
    return ""


CONVERSIONS: dict[str, Callable[[Network], Outcome]] = {
    "fold": _fold,
    "fp16": lambda network: _half(network, "float16", False),
    "fp16-io": lambda network: _half(network, "float16", True),
    "bf16": lambda network: _half(network, "bfloat16", False),
    "int8": lambda network: _int8(network, False),
    "int8-symmetric": lambda network: _int8(network, True),
}
