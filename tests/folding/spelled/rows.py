"""What a row of the table of spellings is, and the parts that rows are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper

from tests.folding.build import GraphBuilder
from tests.folding.case import weights
from tests.folding.graphs import int64
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C, Parameters

Make = Callable[["Net"], str]


class Net(Parameters):
    """A network of float64 that is being written: convolutions, channel constants, arithmetic."""

    def __init__(self, opset: int = 20, dtype: Any = np.float64) -> None:
        super().__init__(GraphBuilder(dtype, opset), (C, 1, 1))

    def x(self, *shape: int | str) -> str:
        """The network's input."""
        return self.b.input(shape or (2, 2, 5, 4))

    def conv(self, x: str = "", inputs: int = 2, outputs: int = C, **attrs: Any) -> str:
        """A 3 x 2 convolution without a bias of `x`, or of the network's input."""
        return self("Conv", x or self.x(), self.b.const(weights(outputs, inputs, 3, 2), "weight"), **attrs)

    @property
    def type(self) -> int:
        """ONNX's number of the network's type."""
        return helper.np_dtype_to_tensor_dtype(self.b.dtype)

    def ints(self, *values: int) -> str:
        return int64(self.b, *values)

    def factors(self, *values: float) -> str:
        """What Resize multiplies sizes by."""
        return self.b.const(np.array(values, np.float32), keep_type=True)

    def whole(self, values: Any) -> str:
        """A constant of the numbers' own type."""
        return self.b.const(np.asarray(values), keep_type=True)

    def vector(self, values: Any) -> str:
        """A constant of the shape that is given."""
        return self.b.const(np.asarray(values))

    def affine(self, x: str, shape: tuple[int, ...] = (C, 1, 1)) -> str:
        """(x - mean) / sqrt(variance + epsilon) * gamma + beta with constants of this shape."""
        deviation = self("Sqrt", self("Add", self.vector(VARIANCE.reshape(shape)), self.number(1e-3)))
        y = self("Div", self("Sub", x, self.vector(MEAN.reshape(shape))), deviation)
        return self("Add", self("Mul", y, self.vector(GAMMA.reshape(shape))), self.vector(BETA.reshape(shape)))

    def batchnorm(self, x: str, **attrs: Any) -> str:
        constants = [self.vector(values) for values in (GAMMA, BETA, MEAN, VARIANCE)]
        return self("BatchNormalization", x, *constants, **attrs)


@dataclass(frozen=True)
class Row:
    """A network with one spelling.

    make: writes it and returns its output.
    left: the operators that remain after the fold.
    stays: what the reason of every norm that is not folded says; "" where all fold.
    silent: why a reader would not call it a norm; it is not listed then.
    """

    name: str
    make: Make
    left: str
    stays: str = ""
    silent: str = ""
    opset: int = 20
    dtype: Any = np.float64

    def net(self, dtype: Any = None) -> GraphBuilder:
        """The network, in the row's own type unless another is given."""
        net = Net(self.opset, dtype or self.dtype)
        net.b.output(self.make(net))
        return net.b


class Rows:
    """Collects rows through decorators; the function's name, in words, is the spelling."""

    def __init__(self) -> None:
        self.all: list[Row] = []

    def add(self, name: str, make: Make, left: str = "Conv Relu", **more: Any) -> None:
        self.all.append(Row(name, make, left, **more))

    def folds(self, left: str = "Conv Relu", **more: Any) -> Callable[[Make], Make]:
        def register(make: Make) -> Make:
            self.add(make.__name__.replace("_", " "), make, left, **more)
            return make

        return register

    def stays(self, reason: str, left: str, **more: Any) -> Callable[[Make], Make]:
        return self.folds(left, stays=reason, **more)
