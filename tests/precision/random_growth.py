"""A random network while it grows: every node is computed as it is added, so that each step knows shapes and values.

A step that gives no valid node, or numbers that prove nothing (NaN, infinite, too large), is taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from normexport import norms
from normexport.errors import NormExportError
from normexport.runtime import Float64Runtime
from tests.folding.choices import Choices

MOST_ELEMENTS = 2048
LARGEST = 2000.0  # of the numbers in a network: some layers on, float16 still holds what comes of them
FLOAT = TensorProto.FLOAT


class Unfit(Exception):
    """This step is none at this place of this network."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network: its name, ONNX element type, and the numbers it has on the network's own sample."""

    name: str
    elem: int
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def rank(self) -> int:
        return self.array.ndim

    @property
    def is_float(self) -> bool:
        return self.elem == FLOAT

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes behind batch and channels."""
        return self.shape[2:]


class Growth:
    """The network so far, the decisions that continue it, and the version of the operators."""

    def __init__(self, choices: Choices, opset: int) -> None:
        self.choices, self.opset = choices, opset
        self.rng = np.random.default_rng(choices.integer(0, 2**16))
        self.nodes: list[onnx.NodeProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.constants: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.values: list[Value] = []
        self.used: Counter[str] = Counter()
        self.jumps = False  # whether a small change of a number may change others by much
        self._count = 0

    def fresh(self, stem: str) -> str:
        """A name not given before."""
        self._count += 1
        return f"{stem}_{self._count}"

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def input(self, array: np.ndarray) -> Value:
        """A graph input with these numbers as its sample."""
        value = Value(self.fresh("input"), elem_of(array), array)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def const(self, array: Any, stem: str = "constant", *, shared: bool = True) -> Value:
        """A constant: an initializer, a Constant node, or an older constant of the same type and shape."""
        array = np.asarray(array)
        fitting = [v for v in self.constants.values() if v.array.dtype == array.dtype and v.shape == array.shape]
        if shared and array.dtype == np.float32 and fitting and self.choices.chance(10):
            return self.choices.one_of(fitting)
        value = Value(self.fresh(stem), elem_of(array), array)
        if self.choices.chance(8):
            proto = numpy_helper.from_array(array)
            self.nodes.append(helper.make_node("Constant", [], [value.name], name=self.fresh("node"), value=proto))
        else:
            self.constants[value.name] = value
        return value

    def ints(self, *values: int) -> Value:
        """A constant vector of int64: shapes, axes, pads."""
        return self.const(np.asarray(values, np.int64), "sizes")

    def pick(self, matches: Callable[[Value], bool] = lambda value: value.is_float) -> Value:
        """The newest value that matches, at times an older one.

        Raises:
            Unfit: there is none.
        """
        fitting = [value for value in self.values if matches(value)]
        if not fitting:
            raise Unfit
        return self.choices.one_of(fitting) if self.choices.chance(25) else fitting[-1]

    def node(
        self,
        operator: str,
        inputs: Sequence[Value | None],
        *,
        outputs: int = 1,
        domain: str = "",
        keep: bool = True,
        captured: Sequence[Value] = (),
        **attributes: Any,
    ) -> Value:
        """Add a node; its first output is returned and, with `keep`, all of them may be read by later steps.

        Args:
            captured: what its subgraphs read from outside.

        Raises:
            Unfit: it is not valid, or its numbers are of no use.
        """
        names = [self.fresh(operator.lower()) for _ in range(outputs)]
        read = [value.name if value is not None else "" for value in inputs]
        node = helper.make_node(operator, read, names, self.fresh("node"), domain=domain, **attributes)
        sources = [value for value in (*inputs, *captured) if value is not None]
        made = self._computed(node, sources)
        self.nodes.append(node)
        self.used.update(value.name for value in sources)
        if keep:
            self.values += made
        return made[0]

    def _computed(self, node: onnx.NodeProto, sources: Sequence[Value]) -> list[Value]:
        """The node's outputs on the network's sample."""
        unique = list({value.name: value for value in sources}.values())
        fixed = {value.name for value in unique if value.name in self.constants or value.elem == TensorProto.INT64}
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info(v.name, v.elem, v.shape) for v in unique if v.name not in fixed],
            [helper.make_empty_tensor_value_info(name) for name in node.output],
            [numpy_helper.from_array(stored(v), v.name) for v in unique if v.name in fixed],
        )
        model = helper.make_model(
            graph, opset_imports=self.opsets(), functions=self.bodies([node]), ir_version=norms.IR_VERSION
        )
        try:
            model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            runtime = Float64Runtime(model, torch=False)
            results = runtime.run({v.name: v.array for v in unique if v.name not in fixed})
        except (NormExportError, onnx.shape_inference.InferenceError) as error:
            raise Unfit(f"{node.op_type}: {error}") from error
        made = []
        for info in model.graph.output:
            array, elem = results[info.name], info.type.tensor_type.elem_type
            if not elem or not 0 < array.size <= MOST_ELEMENTS or array.ndim > 5:
                raise Unfit
            if array.dtype.kind == "f" and not (np.isfinite(array).all() and np.abs(array).max() <= LARGEST):
                raise Unfit
            made.append(Value(info.name, elem, array))
        return made

    def opsets(self) -> list[onnx.OperatorSetIdProto]:
        """Everything that this network may import."""
        own = [helper.make_opsetid(norms.DOMAIN, norms.VERSION)] if self.opset == norms.OPSET else []
        local = [helper.make_opsetid("local.parts", 1)] if self.functions else []
        return [helper.make_opsetid("", self.opset), *own, *local]

    def bodies(self, nodes: Sequence[onnx.NodeProto]) -> list[onnx.FunctionProto]:
        """Functions that these nodes call."""
        called = {(node.domain, node.op_type) for node in nodes}
        own = [body for name, body in norms.functions().items() if (norms.DOMAIN, name) in called]
        return [*own, *(each for each in self.functions if (each.domain, each.name) in called)]


def elem_of(array: np.ndarray) -> int:
    """ONNX element type of an array."""
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def stored(value: Value) -> np.ndarray:
    """The array in the type that a file stores."""
    return np.asarray(value.array, helper.tensor_dtype_to_np_dtype(value.elem), order="C")


def smooth(value: Value) -> bool:
    """Floating, with an axis or more."""
    return value.is_float and value.rank > 0


def spatial(value: Value) -> bool:
    """(N, C, ...), floating."""
    return value.is_float and 3 <= value.rank <= 5
