"""What nodes ask of numbers, by sort: limits where a function changes its slope, conditions, steps, bends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import op
from normexport.io.onnx_domain import is_onnx_domain
from normexport.proof.inputs.following import constant_numbers
from normexport.proof.known_ends import known_ends

#: Another function below 0 than above.
_AT_ZERO = ("Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Abs", "Sign")
_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN", "IsInf")
_GIVE_BOOLS = (*_COMPARISONS, "And", "Or", "Xor", "Not")
_STEPS = ("Floor", "Ceil", "Round", "ArgMax", "ArgMin")
#: Smooth functions, each with the numbers between which it is straight, and those beyond which it is straight or flat.
BENDS: Mapping[str, tuple[float, float, float]] = {
    "Sigmoid": (0.007, -11.5, 11.5),
    "Tanh": (0.004, -6.0, 6.0),
    "Erf": (0.004, -3.0, 3.0),
    "Softsign": (1e-5, -1e5, 1e5),
    "Atan": (0.004, -1e5, 1e5),
    "Asinh": (0.004, -np.inf, np.inf),
    **dict.fromkeys(("Sin", "Cos"), (0.004, -np.inf, np.inf)),
    "Exp": (0.004, -11.5, np.inf),
    **dict.fromkeys(("Softplus", "Mish"), (0.004, -11.5, 11.5)),
    **dict.fromkeys(("Gelu", "Swish"), (1e-5, -15.0, 15.0)),
}
_STRAIGHT = 15.0  # from here on Softplus(x) is x: 3e-7 more
_EPSILON = 1e-4  # smaller limits keep a divisor from 0
_LARGE = 1e6  # larger ones are those of a type
_SAME = 1e-2  # of two limits
_BACK = 8  # nodes from a limit

#: Sorts of what a node asks of numbers; a limit is of its number's.
CONDITION, OVERLAP, LIMIT, LIMITS = "condition", "overlap", "limit", "limits of channels"
CHOICE, STEP, BEND, ADDEND, FACTOR = "choice", "step", "bend", "addend", "factor"


@dataclass(frozen=True)
class Sort:
    """What nodes of two graphs have in common that ask the same of numbers.

    `before` is the limit of what was there before single numbers were added or multiplied, as many ways to write one
    function differ in these: HardSwish is x * Clip(x + 3, 0, 6) / 6.
    """

    name: str
    limit: float = 0.0
    before: float = 0.0

    def is_like(self, other: Sort) -> bool:
        """Whether they are one, as far as a limit keeps its number when it is rounded to a half."""
        ours, theirs = (self.limit, self.before), (other.limit, other.before)
        return self.name == other.name and any(abs(a - b) <= _SAME * abs(a) for a in ours for b in theirs)


def sorts_of(node: ir.Node, numbers: Set[ir.Value]) -> Iterator[Sort]:
    """What an ONNX node asks of numbers, each once; `numbers`: the values that follow from those of an input.

    Addends and factors are left out: of most additions both sides count, and which does not is known by running.
    """
    if not is_onnx_domain(node.domain):
        return
    if is_condition(node, numbers):
        yield Sort(CONDITION)
    elif is_overlap(node):
        yield Sort(OVERLAP)
    if is_step(node, numbers):
        yield Sort(STEP)
    if node.op_type in BENDS and node.inputs[0] in numbers:
        yield Sort(BEND)
    if limits_of_channels(node) is not None:
        yield Sort(LIMITS)
    yield from (Sort(CHOICE) for _ in (*chosen(node, numbers), *parts_of_least(node, numbers)))
    yield from (sort_of_limit(node, limit) for limit in limits(node))


def is_condition(node: ir.Node, numbers: Set[ir.Value]) -> bool:
    """Whether a node chooses by numbers: a Where, an If, or a bool that is made a number, as for a product with it."""
    if node.op_type == "Where" and _is_softplus(node):
        return False
    chooses = node.op_type in ("Where", "If") or (node.op_type == "Cast" and _is_bool(node.inputs[0]))
    return chooses and node.inputs[0] in numbers


def _is_softplus(node: ir.Node) -> bool:
    """Whether a Where takes x for Softplus(x) where x is large: the two are one number there."""
    condition, _, small = (None if value is None else value.producer() for value in node.inputs)
    if condition is None or small is None or op(condition) != "Greater" or op(small) != "Softplus":
        return False
    limit, x = _single(condition.inputs[1]), node.inputs[1]
    return limit is not None and limit >= _STRAIGHT and condition.inputs[0] is x and small.inputs[0] is x


def _is_bool(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    made = producer is not None and is_onnx_domain(producer.domain) and producer.op_type in _GIVE_BOOLS
    return made or (value is not None and value.dtype == ir.DataType.BOOL)


def is_overlap(node: ir.Node) -> bool:
    """Whether boxes can go for others that they overlap."""
    return node.op_type == "NonMaxSuppression" and len(node.inputs) > 3 and node.inputs[3] is not None


def is_step(node: ir.Node, numbers: Set[ir.Value]) -> bool:
    """Whether a node gives one number for many: a rounding, a remainder, the place of the largest."""
    source = node.inputs[0] if node.inputs else None
    if source is None or source not in numbers:
        return False
    if node.op_type == "Cast":
        to_whole = ir.DataType(node.attributes["to"].as_int()).is_integer()
        return to_whole and not _is_bool(source) and not (source.dtype is not None and source.dtype.is_integer())
    whole = node.outputs[0].dtype is not None and node.outputs[0].dtype.is_integer()
    return node.op_type in (*_STEPS, "Mod") or (node.op_type == "Div" and whole)


def chosen(node: ir.Node, numbers: Set[ir.Value]) -> list[ir.Value]:
    """Of a Min or Max of more than one value that is no constant these; of a Clip its limits that are none."""
    if node.op_type not in ("Min", "Max", "Clip"):
        return []
    found = [value for value in node.inputs if value is not None and not _is_constant(value)]
    if node.op_type == "Clip":
        found = [value for value in found if value is not node.inputs[0]]
    elif len(found) == 1:
        return []
    return found if any(value in numbers for value in node.inputs if value is not None) else []


def parts_of_least(node: ir.Node, numbers: Set[ir.Value]) -> list[ir.Value]:
    """Of a ReduceMin or ReduceMax over values that were put side by side these: `min(stack((a, b)))` is a minimum."""
    joined = node.inputs[0].producer() if node.op_type in ("ReduceMin", "ReduceMax") and node.inputs[0] else None
    if joined is None or joined.op_type != "Concat" or joined.outputs[0] not in numbers:
        return []
    given = constant_numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else given
    whole = axes is None and len(node.inputs) < 2
    along = whole or (axes is not None and joined.attributes["axis"].as_int() in [int(axis) for axis in axes])
    return [value for value in joined.inputs if value is not None] if along and len(joined.inputs) > 1 else []


def limits(node: ir.Node) -> tuple[float, ...]:
    """Where a function of one value changes its slope, but for limits that are there never to be reached."""
    found = [0.0] if node.op_type in _AT_ZERO else []
    if node.op_type == "HardSwish":
        found = [-3.0, 3.0]
    if node.op_type == "HardSigmoid":
        slope, at_zero = (_float(node.attributes, *each) for each in (("alpha", 0.2), ("beta", 0.5)))
        found = [-at_zero / slope, (1 - at_zero) / slope] if slope else []
    if node.op_type == "ThresholdedRelu":
        found = [_float(node.attributes, "alpha", 1.0)]
    if node.op_type == "Shrink":
        width = _float(node.attributes, "lambd", 0.5)
        found = [-width, width]
    if node.op_type in ("Clip", "Min", "Max"):
        given = limited(node)
        numbers = [constant_numbers(value) for value in node.inputs if value is not None and value is not given]
        found = [float(each.reshape(-1)[0]) for each in numbers if each is not None and np.ptp(each) == 0]
        found += [node.attributes[end].as_float() for end in ("min", "max") if end in node.attributes]
    low, high = known_ends(limited(node))
    return tuple(each for each in found if low < each < high and (each == 0 or _EPSILON <= abs(each) <= _LARGE))


def limits_of_channels(node: ir.Node) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """The limits of a Min or Max by a constant of several numbers; NaN for one that is there never to be reached."""
    if node.op_type not in ("Min", "Max") or len(node.inputs) != 2:
        return None
    tensors = [ir.convenience.get_const_tensor(value) for value in node.inputs if value is not None]
    tensor = next((each for each in tensors if each is not None), None)
    array = None if tensor is None else tensor.numpy()
    if array is None or array.size < 2 or array.dtype.kind not in "iuf" or (array == array.reshape(-1)[0]).all():
        return None
    found = array.astype(np.float64)
    low, high = known_ends(limited(node))
    size = np.abs(found)
    reached = (found > low) & (found < high) & ((found == 0) | ((size >= _EPSILON) & (size <= _LARGE)))
    return np.where(reached, found, np.nan)


def sort_of_limit(node: ir.Node, limit: float) -> Sort:
    """The sort of one of the limits of a node."""
    return Sort(LIMIT, limit, _before(limited(node), limit))


def _before(value: ir.Value | None, limit: float) -> float:
    """What a value's limit is of the value from which it was made by adding or multiplying single numbers."""
    for _ in range(_BACK):
        node = None if value is None else value.producer()
        kind = "" if node is None else op(node)
        if node is None or kind not in ("Add", "Sub", "Mul", "Div"):
            break
        numbers = [_single(each) for each in node.inputs]
        position = 0 if numbers[1] is not None else 1
        number, value = numbers[1 - position], node.inputs[position]
        if number is None or (kind in ("Mul", "Div") and not number) or (kind == "Div" and position):
            break
        if kind == "Add":
            limit -= number
        elif kind == "Sub":
            limit = number - limit if position else limit + number
        else:
            limit = limit / number if kind == "Mul" else limit * number
    return limit


def _single(value: ir.Value | None) -> float | None:
    numbers = constant_numbers(value)
    return float(numbers.reshape(-1)[0]) if numbers is not None and numbers.size == 1 else None


def limited(node: ir.Node) -> ir.Value | None:
    """What the limits of a node limit: the first of its inputs that is no constant."""
    return next((value for value in node.inputs if value is not None and not _is_constant(value)), None)


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def _float(attributes: Mapping[str, ir.Attr], name: str, otherwise: float) -> float:
    return attributes[name].as_float() if name in attributes else otherwise
