"""What makes a candidate of a network: changes that break it, and changes that must not matter.

Each takes a copy of the model and a generator, changes it, and says whether there was something to change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

Change = Callable[[ir.Model, np.random.Generator], bool]


def weights_of(model: ir.Model, least: int = 2) -> list[ir.Value]:
    """Floating initializers of a node, of two numbers or more, in the graph's order."""
    return [
        value
        for value in model.graph.initializers.values()
        if value.const_value is not None
        and value.const_value.dtype == ir.DataType.FLOAT
        and value.const_value.size >= least
        and all(use.node.op_type != "Resize" for use in value.uses())
        and np.isfinite(value.const_value.numpy()).all()
    ]


def store(value: ir.Value, array: np.ndarray) -> None:
    """Give an initializer other numbers, of its own type."""
    assert value.const_value is not None
    value.const_value = ir.Tensor(array.astype(value.const_value.numpy().dtype), name=value.name)


def _read(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return np.array(value.const_value.numpy())


def insert(
    model: ir.Model, value: ir.Value, op: str, constants: tuple[np.ndarray, ...] = (), **attributes: object
) -> None:
    """Put `op` behind a value: everything that read it, outputs too, reads the new node's result."""
    made = ir.Value(name=f"{value.name}_{op.lower()}", type=value.type, shape=value.shape)
    extra = [_initializer(model, f"{made.name}_{index}", array) for index, array in enumerate(constants)]
    before = list(value.uses())
    node = ir.node(op, [value, *extra], outputs=[made])
    behind = value.producer()
    for use in before:
        use.node.replace_input_with(use.idx, made)
    if behind is None:
        model.graph.insert_before(model.graph[0], node)
    else:
        model.graph.insert_after(behind, node)
    for index, output in enumerate(model.graph.outputs):
        if output is value:
            value.name, made.name = f"{value.name}_before", value.name
            model.graph.outputs[index] = made


def _initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    model.graph.initializers[name] = value
    return value


def _floating_outputs(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.outputs if value.dtype == ir.DataType.FLOAT]


# What breaks a network.


def channel_of_a_weight(model: ir.Model, rng: np.random.Generator) -> bool:
    """One output channel of one weight, 1 % larger."""
    weight = weights_of(model)[rng.integers(len(weights_of(model)))]
    array = _read(weight)
    array[rng.integers(len(array))] *= 1.01
    store(weight, array)
    return True


def channels_swapped(model: ir.Model, rng: np.random.Generator) -> bool:
    """Two rows of one weight, exchanged."""
    weight = weights_of(model)[rng.integers(len(weights_of(model)))]
    array = _read(weight)
    first = int(rng.integers(len(array)))
    array[[first, first - 1]] = array[[first - 1, first]]
    store(weight, array)
    return len(array) > 1


def bias_off(model: ir.Model, rng: np.random.Generator) -> bool:
    """A vector of parameters, 0.1 % of its size off."""
    vectors = [each for each in weights_of(model) if len(each.const_value.shape) == 1]
    if not vectors:
        return False
    vector = vectors[rng.integers(len(vectors))]
    store(vector, _read(vector) + 1e-3 * np.abs(_read(vector)).max())
    return True


def half_weights(model: ir.Model, rng: np.random.Generator) -> bool:
    """All weights as float16 holds them."""
    for weight in weights_of(model):
        store(weight, _read(weight).astype(np.float16))
    return True


def outputs_swapped(model: ir.Model, rng: np.random.Generator) -> bool:
    """Two outputs exchanged, under each other's names."""
    outputs = model.graph.outputs
    if len(outputs) < 2:
        return False
    first, second = outputs[0].name, outputs[1].name
    outputs[0].name = "exchanged"
    outputs[1].name, outputs[0].name = first, second
    outputs[0], outputs[1] = outputs[1], outputs[0]
    return True


def last_output_noisy(model: ir.Model, rng: np.random.Generator) -> bool:
    """The last floating output 1 % larger: the first alone would not tell."""
    insert(model, _floating_outputs(model)[-1], "Mul", (np.array([1.01], np.float32),))
    return True


def last_output_constant(model: ir.Model, rng: np.random.Generator) -> bool:
    """The last floating output is zero, and its neighbourhood is plausible no more."""
    insert(model, _floating_outputs(model)[-1], "Mul", (np.array([0.0], np.float32),))
    return True


def random_noise(model: ir.Model, rng: np.random.Generator) -> bool:
    """Uniform noise of 1e-3 in the first floating output."""
    output = _floating_outputs(model)[0]
    noise = ir.Value(name="noise", type=ir.TensorType(ir.DataType.FLOAT))
    insert(model, output, "Add", (np.zeros(1, np.float32),))
    add = _floating_outputs(model)[0].producer()
    assert add is not None
    attributes = {"low": -1e-3, "high": 1e-3}
    node = ir.node("RandomUniformLike", [add.inputs[0]], attributes=attributes, outputs=[noise])
    model.graph.insert_before(add, node)
    add.replace_input_with(1, noise)
    return True


def saturating(model: ir.Model, rng: np.random.Generator) -> bool:
    """Right for small inputs: the first floating value of the graph is cut at 3."""
    values = [value for node in model.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT]
    insert(model, values[0], "Clip", (np.array(-3.0, np.float32), np.array(3.0, np.float32)))
    return True


def leaky(model: ir.Model, rng: np.random.Generator) -> bool:
    """A ReLU that lets a hundredth through."""
    for node in model.graph:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.01)
            return True
    return False


def epsilon(model: ir.Model, rng: np.random.Generator) -> bool:
    """A norm's epsilon, 1e-3 instead of its own."""
    for node in model.graph:
        if "epsilon" in node.attributes or node.op_type in ("BatchNormalization", "LayerNormalization"):
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 2e-3)
            return True
    return False


def nan_everywhere(model: ir.Model, rng: np.random.Generator) -> bool:
    """Nothing but NaN."""
    for output in _floating_outputs(model):
        insert(model, output, "Add", (np.array([np.nan], np.float32),))
    return True


def nan_in_one_element(model: ir.Model, rng: np.random.Generator) -> bool:
    """NaN where the output is largest: x - x / (x < max)."""
    weights = [each for each in weights_of(model) if len(each.const_value.shape) == 1]
    if not weights:
        return False
    array = _read(weights[-1])
    array[-1] = np.nan
    store(weights[-1], array)
    return True


# What must not matter.


def nothing(model: ir.Model, rng: np.random.Generator) -> bool:
    """The very same model."""
    return True


def identity(model: ir.Model, rng: np.random.Generator) -> bool:
    """An Identity behind every floating value of a node."""
    for value in [v for node in list(model.graph) for v in node.outputs if v.dtype == ir.DataType.FLOAT]:
        insert(model, value, "Identity")
    return True


def scaled_and_back(model: ir.Model, rng: np.random.Generator) -> bool:
    """A random value times 3, and divided by 3."""
    values = [v for node in model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    value = values[rng.integers(len(values))]
    insert(model, value, "Div", (np.array([3.0], np.float32),))
    insert(model, value, "Mul", (np.array([3.0], np.float32),))
    return True


def shifted_and_back(model: ir.Model, rng: np.random.Generator) -> bool:
    """A random value plus a tenth, minus a tenth."""
    values = [v for node in model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    value = values[rng.integers(len(values))]
    insert(model, value, "Sub", (np.array([0.1], np.float32),))
    insert(model, value, "Add", (np.array([0.1], np.float32),))
    return True


def weights_of_one_roundoff(model: ir.Model, rng: np.random.Generator) -> bool:
    """Every weight moved to a neighbouring float32 or left."""
    for weight in weights_of(model):
        array = _read(weight)
        steps = rng.choice([np.float32(-np.inf), np.float32(np.inf)], array.shape)
        store(weight, np.where(rng.random(array.shape) < 0.5, np.nextafter(array, steps), array))
    return True


def commuted(model: ir.Model, rng: np.random.Generator) -> bool:
    """Operands of Add and Mul exchanged."""
    found = False
    for node in model.graph:
        if node.op_type in ("Add", "Mul") and len(node.inputs) == 2:
            first, second = node.inputs
            node.replace_input_with(0, second)
            node.replace_input_with(1, first)
            found = True
    return found


WRONG: tuple[Change, ...] = (
    channel_of_a_weight, channels_swapped, bias_off, half_weights, outputs_swapped, last_output_noisy,
    last_output_constant, random_noise, saturating, leaky, epsilon, nan_everywhere, nan_in_one_element,
)  # fmt: skip
RIGHT: tuple[Change, ...] = (
    nothing, identity, scaled_and_back, shifted_and_back, weights_of_one_roundoff, commuted,
)  # fmt: skip
