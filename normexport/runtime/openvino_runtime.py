"""OpenVINO on the CPU, in float32 where a file says so: the second runtime that an ONNX file is proven on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from normexport.errors import FoldError, MissingComponent, UsageError
from normexport.graphs.inline import inline_functions
from normexport.io.atomic import scratch
from normexport.io.onnx_model import opened_model, save_onnx
from normexport.norms.own_bodies import require_own_bodies
from normexport.runtime.base import Array, Feeds, Port, Sink, checked_feeds, port
from normexport.runtime.memory import release_memory
from normexport.text import one_line

#: By itself OpenVINO computes in bfloat16 where the processor can: that would be judged as an error of the file.
_AS_WRITTEN = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY"}
_TELEMETRY = "openvino_telemetry"


class OpenVinoRuntime:
    """An ONNX model on OpenVINO's CPU plugin, its inference precision set to float32.

    OpenVINO knows no functions: their bodies are put in the place of their calls (`normexport.graphs.inline`). Inner
    values are captured by adding them as outputs to a copy of the model. Its CPU kernels compute float64 in float32,
    and int64 in int32.

    Args:
        model: a model or the path of one.
        threads: threads of one inference, None: OpenVINO's choice.

    Raises:
        MissingComponent: openvino is not installed.
        FoldError: OpenVINO can't load the model, or an operator of ours has a body that is not its own.
    """

    name = "OpenVINO"
    passive_capture = False

    def __init__(self, model: ir.Model | onnx.ModelProto | str | Path, *, threads: int | None = None) -> None:
        self._openvino = import_openvino()
        given = opened_model(model)
        require_own_bodies(given)
        self._model, self._threads = inline_functions(given), threads
        if not self._model.graph.outputs:
            raise FoldError(_place(given), "has no outputs, so nothing can be run for", "check it with onnx.checker")
        graph = self._model.graph
        self.inputs = tuple(_port(value) for value in graph.inputs if value.name not in graph.initializers)
        self.input_names = tuple(each.name for each in self.inputs)
        self.output_names = tuple(str(value.name) for value in graph.outputs)
        self._values = {value.name: value for node in graph for value in node.outputs if value.name}
        self.dropped: Mapping[str, str] = {}
        self._extra: tuple[str, ...] = ()
        self._compiled = self._compile(())

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        arrays = checked_feeds(self.name, self.inputs, feeds)
        self.dropped = {name: "is not in the file" for name in capture if name not in self._values}
        wanted = [name for name in capture if name in self._values]
        extra = tuple(name for name in dict.fromkeys(wanted) if name not in self.output_names)
        if not set(extra) <= set(self._extra) or (self._extra and not extra):
            self._compiled = None  # one at a time: its weights go before the next one's come
            release_memory()
            self._compiled, self._extra = self._compile(extra), extra
        try:
            values = self._infer(arrays)
        except Exception as error:  # the bindings raise their own kinds, all derived from Exception
            cause = f"can't run on these inputs ({_reason(error)})"
            raise UsageError(self.name, cause, "check the input shapes") from error
        values = {name: value for name, value in values.items() if name in self.output_names or name in extra}
        if sink is None:
            return values
        for name in wanted:
            sink(name, values[name] if name in self.output_names else values.pop(name))
        return values

    def save(self, path: Path) -> None:
        """Write the model as OpenVINO's own files, `path` (.xml) and its .bin, in the types of the ONNX file.

        Raises:
            UsageError: they can't be written.
        """
        try:
            self._openvino.save_model(self._read(()), str(path), compress_to_fp16=False)
        except Exception as error:  # as in `run`
            raise UsageError(str(path), f"can't be written ({_reason(error)})", "check the folder") from error

    def reopen(self, path: Path) -> None:
        """Run from now on what `save` wrote.

        Raises:
            FoldError: OpenVINO can't load it.
        """
        try:
            self._compiled, self._extra = self._loaded(self._core().read_model(str(path))), ()
        except Exception as error:  # as in `run`
            raise self._refusal(error) from error

    def _infer(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        request = self._compiled.create_infer_request()
        for index, array in enumerate(arrays.values()):
            request.set_input_tensor(index, self._openvino.Tensor(np.require(array, requirements=["C", "A"])))
        request.infer()
        names = (*self.output_names, *self._extra)
        return {name: _array(request.get_output_tensor(index)) for index, name in enumerate(names)}

    def _compile(self, extra: tuple[str, ...]) -> Any:
        model = self._read(extra)
        try:
            compiled = self._loaded(model)
        except Exception as error:  # as in `run`
            raise self._refusal(error) from error
        if len(compiled.inputs) != len(self.inputs) or len(compiled.outputs) != len(self.output_names) + len(extra):
            raise FoldError(_place(self._model), "has other inputs or outputs in OpenVINO", "leave --runtime out")
        return compiled

    def _read(self, extra: tuple[str, ...]) -> Any:
        """OpenVINO's model of the file; it maps the temporary one, which is gone when this returns."""
        copy = self._model.clone()
        values = {value.name: value for node in copy.graph for value in node.outputs}
        copy.graph.outputs.extend(values[name] for name in extra)
        with scratch() as folder:
            save_onnx(copy, folder / "model.onnx")
            try:
                return self._core().read_model(str(folder / "model.onnx"))
            except Exception as error:  # as in `run`
                raise self._refusal(error) from error

    def _loaded(self, model: Any) -> Any:
        settings: dict[str, Any] = dict(_AS_WRITTEN)
        if self._threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self._threads
        return self._core().compile_model(model, "CPU", settings)

    def _core(self) -> Any:
        return self._openvino.Core()

    def _refusal(self, error: Exception) -> FoldError:
        return FoldError(
            _place(self._model), f"OpenVINO can't load it ({_reason(error)})", "leave --runtime out: ONNX Runtime may"
        )


def save_openvino(model: ir.Model, path: Path, feeds: Feeds) -> None:
    """Write a model as OpenVINO's own files, `path` (.xml) and its .bin, and see that these give the same bytes.

    Args:
        feeds: what both are run on.

    Raises:
        FoldError: OpenVINO can't load the model, or what it wrote computes something else.
        UsageError: the files can't be written.
    """
    runtime = OpenVinoRuntime(model)
    before = runtime.run(feeds)
    runtime.save(path)
    runtime.reopen(path)
    for name, value in runtime.run(feeds).items():
        if value.dtype != before[name].dtype or value.tobytes() != before[name].tobytes():
            cause = f"OpenVINO's own files give another {name} than the ONNX file"
            raise FoldError(_place(model), cause, "leave --openvino out")


def require_openvino() -> None:
    """Refuse to go on where OpenVINO is not installed; it is not imported.

    Raises:
        MissingComponent: it is not.
    """
    if importlib.util.find_spec("openvino") is None:
        raise MissingComponent.of("openvino", "openvino")


def import_openvino() -> Any:
    """The module, without the report of its use to its makers that importing it sends."""
    held = {_TELEMETRY: sys.modules.get(_TELEMETRY)}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # so Python calls a module that can't be imported
    try:
        import openvino
    except ImportError as error:
        raise MissingComponent.of("openvino", "openvino") from error
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update({name: module for name, module in held.items() if module is not None})
    return openvino


def _array(tensor: Any) -> Array:
    """A copy of what a tensor holds; of bfloat16, which OpenVINO hands out as another type's bits, as float32."""
    data = np.array(tensor.data)
    if tensor.element_type.get_type_name() != "bf16":
        return data
    return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _place(model: ir.Model) -> str:
    return model.graph.name or "model"


def _reason(error: Exception) -> str:
    """What the error says last: before stand the places in OpenVINO's own source that it passed."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1])[:300] if lines else type(error).__name__


def _port(value: ir.Value) -> Port:
    try:
        dtype = np.dtype(object) if value.dtype is None else value.dtype.numpy()
    except TypeError:  # types that numpy has no name for
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise UsageError(f"input {value.name}", f"is of type {value.dtype}", "feed tensors of numpy's types only")
    name = str(value.name)
    return Port(name, dtype.name) if value.shape is None else port(name, list(value.shape), dtype.name)
