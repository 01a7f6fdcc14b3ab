"""Stock ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from normexport.dtypes import FLOATS
from normexport.errors import FoldError, MissingComponent, UsageError
from normexport.io.atomic import scratch
from normexport.io.onnx_model import opened_model, part_weights, split_weights, weight_bytes, write_data
from normexport.norms.own_bodies import require_own_bodies
from normexport.runtime import ort_library
from normexport.runtime.base import Array, Feeds, Port, Sink, checked_feeds, port
from normexport.runtime.baseline_weights import jitter_model
from normexport.runtime.memory import release_memory
from normexport.text import first_line

_DTYPES = {each.onnx_name.lower(): name for name, each in FLOATS.items()}
_CHECK = "check it with onnx.checker"
_FATAL = 4  # ONNX Runtime's log level: what it has to say arrives as an exception, once
_LARGE = 1 << 27  # bytes of weights from which no copies of them are made
_WEIGHTS = "weights"


class OnnxRuntime:
    """An ONNX model on ONNX Runtime's CPU kernels.

    Weights are handed over as arrays, not serialised: half the memory of loading bytes, and no 2 GB limit. From 128 MB
    of them on, ONNX Runtime maps a temporary file of them and optimises at its level EXTENDED; at the highest it keeps
    the weights of convolutions three times.
    Inner values are captured by adding them as outputs to a shallow copy of the model.

    Args:
        model: a model or the path of one.
        threads: threads per operator, None: ONNX Runtime's choice.
        jitter: a seed moves every weight by up to a unit roundoff (`normexport.runtime.baseline_weights`).
        simulated: fake quantisation is computed in float32 as it stands in the graph; else ONNX Runtime makes integer
            operators of what lies between its pairs, which round biases too.
        native: live norms run on the kernels of the custom-op library where it was built
            (`normexport plugins build`), else, or with False, on the bodies in the file. `name` tells which.

    Raises:
        MissingComponent: onnxruntime is not installed, or the library is there and does not load.
        FoldError: ONNX Runtime can't load the model, or an operator of ours has a body that is not its own.
    """

    passive_capture = False

    def __init__(
        self,
        model: ir.Model | onnx.ModelProto | str | Path,
        *,
        threads: int | None = None,
        jitter: int | None = None,
        native: bool = True,
        simulated: bool = False,
    ) -> None:
        self._ort = _import()
        self._model = opened_model(model)
        require_own_bodies(self._model)
        if not self._model.graph.outputs:
            raise FoldError(self._model.graph.name or "model", "has no outputs, so nothing can be run for", _CHECK)
        if jitter is not None:
            self._model = jitter_model(self._model, jitter)
        self._threads, self._simulated = threads, simulated
        self._library = ort_library.library_for(self._model) if native else None
        self.name = "ONNX Runtime with native norms" if self._library else "ONNX Runtime"
        self._values = _inner_values(self._model)
        self.dropped: Mapping[str, str] = {}
        self._extra: frozenset[str] = frozenset()
        self._session = self._open(())
        shapeless = {value.name for value in self._model.graph.inputs if value.shape is None}
        self.inputs = tuple(_port(item, item.name in shapeless) for item in self._session.get_inputs())
        self.input_names = tuple(item.name for item in self.inputs)
        self.output_names = tuple(item.name for item in self._session.get_outputs())

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        arrays = checked_feeds(self.name, self.inputs, feeds)
        dropped = {name: "is not in the file" for name in capture if name not in self._values}
        wanted = [name for name in capture if name in self._values]
        extra = frozenset(wanted) - set(self.output_names)
        if not extra <= self._extra or (self._extra and not extra):
            self._session = None  # one session at a time: its weights go before the next one's come
            release_memory()
            self._session, self._extra = self._open(tuple(extra)), extra
        names = [*self.output_names, *(name for name in wanted if name in extra)]
        try:
            values = dict(zip(names, self._session.run(names, arrays), strict=True))
        except Exception as error:  # the bindings raise their own kinds, all derived from Exception
            cause = f"can't run on these inputs ({first_line(error, 300)})"
            no_numpy = "No corresponding Numpy type" in cause
            remedy = "cast that output to float32" if no_numpy else "check the input shapes"
            raise UsageError(self.name, cause, remedy) from error
        for name in [name for name in extra if name in values and not isinstance(values[name], np.ndarray)]:
            del values[name]  # a sequence
            dropped[name] = "is not a tensor"
        self.dropped = dropped
        if sink is None:
            return values
        for name in [name for name in wanted if name in values]:
            sink(name, values[name] if name in self.output_names else values.pop(name))
        return values

    def _open(self, extra: Collection[str]) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = _FATAL
        if self._simulated:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.enable_cpu_mem_arena = False  # give memory back between runs; parity runs few, large ones
        # Nor one block for all that a second run of the same shapes will need: of a float32 and an int8 ResNet-50 side
        # by side 0.3 GB more than the first run took.
        options.enable_mem_pattern = False
        if self._library is not None:
            ort_library.register(options, self._library)
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        large = weight_bytes(self._model) >= _LARGE
        if extra or large:
            # Without the blocked weight layouts of the highest level: 150 MB less for ResNet-50 where values are
            # captured, whose outputs have been computed by the plain session already.
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        try:
            if large:
                with contextlib.suppress(OSError, UsageError):  # no room for temporary files: by memory, then
                    return self._open_mapped(options, extra)
            return self._open_held(options, extra)
        except Exception as error:  # as above
            cause = f"ONNX Runtime can't load it ({first_line(error, 300)})"
            lacks = "NOT_IMPLEMENTED" in str(error) or "bfloat16" in str(error)
            remedy = "it lacks that operator for this type: convert the model to float32" if lacks else _CHECK
            if "EPContext" in str(error):
                cause = "holds a plan of TensorRT (EPContext), which ONNX Runtime runs on a GPU alone"
                remedy = "give the plan, or the ONNX file that it was built from"
            raise FoldError(self._model.graph.name or "model", cause, remedy) from error

    def _open_held(self, options: Any, extra: Collection[str]) -> Any:
        """A session of weights in memory: theirs, and ONNX Runtime's own copies."""
        proto, weights = split_weights(self._model, _WEIGHTS)
        _put_back_unread(self._model.graph, proto, weights)
        values = [self._ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        if values:
            options.add_external_initializers(list(weights), values)
        return self._session_of(proto, options, extra)

    def _open_mapped(self, options: Any, extra: Collection[str]) -> Any:
        """A session that maps a file of the weights, which is gone when this returns."""
        with scratch() as folder:
            proto, weights = part_weights(self._model, _WEIGHTS)
            write_data(folder / _WEIGHTS, weights)
            _put_back_unread(self._model.graph, proto, weights)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
            return self._session_of(proto, options, extra)

    def _session_of(self, proto: onnx.ModelProto, options: Any, extra: Collection[str]) -> Any:
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
        return self._ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingComponent.of("onnxruntime", "cpu") from error
    onnxruntime.set_default_logger_severity(_FATAL)  # allocators complain beside the session
    return onnxruntime


def _put_back_unread(graph: ir.Graph, proto: onnx.ModelProto, weights: dict[str, Any]) -> None:
    """Let the proto hold the weights that no node reads: ONNX Runtime drops them first, and then misses them."""
    for tensor in proto.graph.initializer:
        value = graph.initializers[tensor.name]
        if tensor.name in weights and value.const_value and not value.uses() and not value.is_graph_output():
            tensor.CopyFrom(ir.serde.serialize_tensor(value.const_value))
            del weights[tensor.name]


def _inner_values(model: ir.Model) -> frozenset[str]:
    """Names of everything the main graph computes."""
    return frozenset(value.name for node in model.graph for value in node.outputs if value.name)


def _port(item: Any, shapeless: bool) -> Port:
    """The session says [] both of a scalar and of an input without a shape."""
    named = item.type.removeprefix("tensor(").removesuffix(")")
    dtype = _DTYPES.get(named, named)
    if dtype not in np.sctypeDict:
        raise UsageError(f"input {item.name}", f"is of type {item.type}", "feed tensors of numpy's types only")
    return Port(item.name, dtype) if shapeless else port(item.name, item.shape, dtype)
