"""The runtime around the interpreter: names, inputs, outputs and captured values."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from normexport.errors import FoldError, NormExportError, UsageError
from normexport.io.onnx_model import opened_model
from normexport.runtime.base import Array, Feeds, Port, Sink, checked_feeds, port
from normexport.runtime.float64.compile import program_of
from normexport.runtime.float64.registry import Value
from normexport.runtime.float64.types import held_as, round_to
from normexport.text import first_line


class Float64Runtime:
    """An ONNX model computed in float64, value by value as ONNX defines it, function bodies and subgraphs included.

    Every floating type of the graph is float64: weights are widened, a Cast to a narrower float rounds nothing.
    Integers, booleans and texts keep their types, and integers wrap around as the type does. Attributes that are
    single floats (epsilon) are the float32 numbers that the file holds, for that is what every runtime reads.

    Each value is freed after its last use, and a weight is widened from its first use to its last.

    Args:
        model: a model or the path of one.
        torch: False computes the heavy operators by numpy even where torch is installed.
        stored: the type ("float32", "float16", "bfloat16") that a value of the main graph is rounded to, by its name,
            where it is given, held as a constant or computed; all other values stay in float64.

    Raises:
        FoldError: no float64 meaning is known for an operator of the model.
        UsageError: an input is not a tensor.
    """

    passive_capture = True

    def __init__(
        self,
        model: ir.Model | onnx.ModelProto | str | Path,
        *,
        torch: bool = True,
        stored: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "float64 interpreter"
        opened = opened_model(model)
        try:
            self._program = program_of(opened, with_torch=torch)
        except NormExportError:
            raise
        except Exception as error:  # a model in memory can be put together in any way
            cause = f"the graph can't be read ({first_line(error)})"
            raise FoldError(opened.graph.name or "model", cause, "check it with onnx.checker") from error
        self.inputs = tuple(_port(value) for value in self._program.inputs)
        self.input_names = tuple(each.name for each in self.inputs)
        self.output_names = tuple(str(value.name) for value in self._program.outputs)
        self._inner = frozenset(str(value.name) for node in opened.graph for value in node.outputs if value.name)
        self._constants = {str(value.name): value for value in self._program.constants}
        self._stored = dict(stored or {})
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        arrays = checked_feeds(self.name, self.inputs, feeds)
        wanted, captured = set(capture), dict[str, Array]()
        dropped = {name: "is not in the file" for name in capture if name not in self._inner}
        take = captured.__setitem__ if sink is None else sink

        def watch(value: ir.Value, result: Value) -> None:
            if value.name in wanted:
                if isinstance(result, np.ndarray):
                    take(str(value.name), result)
                else:
                    dropped[str(value.name)] = "is not a tensor"

        def store(value: ir.Value, result: Value) -> Value:
            return round_to(result, self._stored.get(str(value.name)))

        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NaN and infinity are results like others
            given = [round_to(arrays[name], self._stored.get(name)) for name in self.input_names]
            results = self._program.run(given, None, watch, store if self._stored else None)
        for name in wanted & self._constants.keys() & self._inner:  # what Constant nodes hold is never computed
            with np.errstate(all="ignore"):
                take(name, store(self._constants[name], self._program.constant(self._constants[name])))
        self.dropped = dropped
        for name, result in zip(self.output_names, results, strict=True):
            if not isinstance(result, np.ndarray):
                raise UsageError(f"output {name}", "is not a tensor", "give the model an output of numbers")
        return {**dict(zip(self.output_names, results, strict=True)), **captured}


def _port(value: ir.Value) -> Port:
    name = str(value.name)
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise UsageError(f"input {name}", "is not a tensor", "compare models whose inputs are tensors")
    if value.dtype is None:
        raise UsageError(f"input {name}", "has no type in the file", "infer its types first")
    dtype = held_as(value.dtype).name
    return Port(name, dtype) if value.shape is None else port(name, list(value.shape), dtype)
