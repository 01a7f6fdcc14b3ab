"""PyTorch as a runtime: a module or an exported program, in float64 (the reference) or float32 (the baseline)."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from normexport.dtypes import FLOATS, array_name, as_numpys
from normexport.errors import CheckpointError, NormExportError, UsageError
from normexport.io.quiet import silence
from normexport.onnx_export import InputSpec, Layer
from normexport.onnx_export.calls import call_of, outputs_of
from normexport.runtime.base import Array, Feeds, Port, Sink, checked_feeds
from normexport.runtime.baseline_arithmetic import plain_arithmetic
from normexport.runtime.baseline_weights import jitter_module
from normexport.runtime.control_flow import nothing_compiled
from normexport.runtime.float64_torch import InFloat64, convert_small, shared_copy
from normexport.text import first_line

_CALL_SUFFIX = re.compile(r"@\d+$")  # torch.export.unflatten names a module's later, differing calls path@1


class TorchRuntime:
    """A torch model in eval mode, its own module tree over shared weights; the caller's model is not touched.

    Args:
        model: a module (inputs fed as their `argument` says, else in line) or an exported program.
        inputs: names, shapes and types of the inputs. A program exported with a fixed batch size has inputs
            that are not `batched`, and then only that size is accepted.
        outputs: a name for each output tensor; containers are flattened (`normexport.onnx_export.calls`).
        dtype: "float64", "float32", "float16" or "bfloat16": the precision of weights, inputs and constants.
        layers: module outputs that may be captured, by their tensor name.
        jitter: a seed makes the runtime a baseline: every weight moves by up to a unit roundoff
            (`normexport.runtime.baseline_weights`), long sums are added plainly, sigmoids rounded
            as runtimes do (`normexport.runtime.baseline_arithmetic`).
    """

    passive_capture = True

    def __init__(
        self,
        model: nn.Module | ExportedProgram,
        inputs: Sequence[InputSpec],
        outputs: Sequence[str],
        dtype: str = "float32",
        layers: Sequence[Layer] = (),
        jitter: int | None = None,
    ) -> None:
        self.name = f"PyTorch {dtype}"
        self.inputs = tuple(_port(spec, dtype) for spec in inputs)
        self.input_names = tuple(spec.name for spec in inputs)
        self.output_names = tuple(outputs)
        self.dropped: Mapping[str, str] = {}
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._layers = tuple(layers)
        self._call = call_of(model, inputs, self.name)
        self._model = _module_tree(model)
        if self._dtype == torch.float64:
            convert_small(self._model)
        else:
            _convert(self._model, self._dtype)
        self._baseline = jitter is not None
        if jitter is not None:
            jitter_module(self._model, jitter)

    @property
    def model(self) -> nn.Module:
        """What is run: a module tree of this runtime's own."""
        return self._model

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        arrays = checked_feeds(self.name, self.inputs, feeds)
        sink = _once(sink) if sink is not None else None
        tensors = [torch.tensor(array) for array in arrays.values()]  # copies: a forward may write into its inputs
        tensors = [tensor.to(self._dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
        try:
            with silence():  # torch.fx prints its source before it lets an error out
                return self._run(tensors, capture, sink)
        except NormExportError:
            raise
        # A model's code, or a program that somebody else wrote, can raise anything.
        except Exception as error:
            if self._dtype == torch.float64 and _has_narrow(self._model):
                # Some composite operators (lstm, prelu) compare dtypes before they dispatch: convert all.
                self._model.double()
                return self.run(feeds, capture, sink)
            cause = f"the model does not run on these inputs ({first_line(error)})"
            raise UsageError(self.name, cause, "check the input shapes and types") from error

    def _run(self, tensors: list[torch.Tensor], capture: Collection[str], sink: Sink | None) -> dict[str, Array]:
        captured: dict[str, Array] = {}
        mode: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self._dtype == torch.float64:
            mode = InFloat64()
        elif self._baseline:
            mode = plain_arithmetic(self._model)
        hooks = _Hooks(self._model, self._layers, capture, sink or _keeper(captured))
        # no_grad, not inference_mode: a widened view of an inference tensor has no version counter
        with hooks, torch.no_grad(), nothing_compiled(), mode:
            args, kwargs = self._call.arguments(tensors)
            leaves = outputs_of(self._model(*args, **kwargs))
        self.dropped = hooks.dropped()
        outputs = [_array(leaf) for leaf in leaves if is_output(leaf)]
        if len(outputs) != len(self.output_names):
            cause = f"returns {len(outputs)} tensors, and {len(self.output_names)} outputs are named"
            raise UsageError(self.name, cause, "export the model again")
        kept = {name: value for name, value in captured.items() if name not in self.dropped}
        return kept | dict(zip(self.output_names, outputs, strict=True))


class _Hooks:
    """Forward hooks for one run: hand the output of each wanted (module, call) to a sink, once per tensor."""

    def __init__(self, model: nn.Module, layers: Sequence[Layer], capture: Collection[str], sink: Sink) -> None:
        wanted = set(capture)
        self._model, self._sink = model, sink
        self._layers = [layer for layer in layers if layer.tensor in wanted]
        self._unmapped = wanted - {layer.tensor for layer in self._layers}
        self._by_call = {(layer.path, layer.call): layer for layer in self._layers}
        self._calls: Counter[str] = Counter()
        self._known_calls: dict[str, int] = defaultdict(int)
        for layer in layers:
            self._known_calls[layer.path] = max(self._known_calls[layer.path], layer.call + 1)
        self._given: set[str] = set()
        self._sources: dict[str, str] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> _Hooks:
        paths = {layer.path for layer in self._layers}
        for name, module in self._model.named_modules():
            path = _CALL_SUFFIX.sub("", name)
            if path in paths:
                self._handles.append(module.register_forward_hook(self._hook(path)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def dropped(self) -> dict[str, str]:
        """Tensors that were wanted and not given, or given by a module whose calls differ from the layer map."""
        reasons = dict.fromkeys(self._unmapped, "is the output of no known module")
        for layer in self._layers:
            known, actual = self._known_calls[layer.path], self._calls[layer.path]
            if layer.tensor in self._given and self._sources[layer.tensor] != layer.path:
                continue
            if known != actual:
                reasons[layer.tensor] = f"{layer.path} is called {actual} times, the layer map knows {known}"
            elif layer.tensor not in self._given:
                reasons[layer.tensor] = f"{layer.path} does not return one tensor"
        return reasons

    def _hook(self, path: str) -> Any:
        def hook(module: nn.Module, args: object, output: object) -> None:
            layer = self._by_call.get((path, self._calls[path]))
            self._calls[path] += 1
            value = output[0] if isinstance(output, (tuple, list)) and len(output) == 1 else output
            if layer is None or layer.tensor in self._given or not isinstance(value, torch.Tensor):
                return
            self._given.add(layer.tensor)
            self._sources[layer.tensor] = path
            self._sink(layer.tensor, _array(value))

        return hook


def _module_tree(model: nn.Module | ExportedProgram) -> nn.Module:
    """A fresh module tree over the model's weights: hooks, eval() and conversion stay ours."""
    if isinstance(model, nn.Module):
        return shared_copy(model)
    try:
        return torch.export.unflatten(model)
    except Exception:  # unflatten refuses some programs with many kinds of errors; the flat graph always runs
        return flat_module(model)


def flat_module(program: ExportedProgram) -> nn.Module:
    """The program as one module without its tree.

    Raises:
        CheckpointError: PyTorch can't make one: a name in it is one of torch.fx's own, or its parts contradict.
    """
    try:
        return program.module()
    except Exception as error:  # setattr, exec of what torch.fx writes: KeyError, SyntaxError, TypeError, ...
        cause = f"can't be made a module by PyTorch ({first_line(error)})"
        raise CheckpointError(
            "the exported program", cause, "rename that part of the model, or export it again"
        ) from error


def _port(spec: InputSpec, dtype: str) -> Port:
    floating = spec.dtype in FLOATS
    own = array_name(dtype)  # types that numpy lacks travel as float32 and are rounded by torch
    sizes = tuple(size if isinstance(size, int) else None for size in spec.declared())
    return Port(spec.name, own if floating else spec.dtype, sizes)


def _keeper(kept: dict[str, Array]) -> Sink:
    def keep(name: str, value: Array) -> None:
        kept[name] = value.copy()  # a later in-place operator (ReLU(inplace=True)) writes into the same memory

    return keep


def _once(sink: Sink) -> Sink:
    """A run that starts again, its weights converted, hands no value over that it has handed over before."""
    given: set[str] = set()

    def hand(name: str, value: Array) -> None:
        if name not in given:
            given.add(name)
            sink(name, value)

    return hand


def is_output(leaf: object) -> bool:
    """Whether a leaf of what a model returns has a place in its ONNX file: tensors, and sizes of the input."""
    return isinstance(leaf, torch.Tensor) or type(leaf) is int


def _array(leaf: torch.Tensor | int) -> Array:
    if not isinstance(leaf, torch.Tensor):
        return np.asarray(leaf, dtype=np.int64)
    tensor = leaf.detach().cpu()
    array: Array = as_numpys(tensor).numpy()
    return array


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """Floating-point weights to `dtype`, complex ones to complex64: `model.to(dtype)` would drop imaginary parts."""

    def converted(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(
            torch.complex64 if tensor.is_complex() else dtype if tensor.is_floating_point() else tensor.dtype
        )

    model._apply(converted)


def _has_narrow(model: nn.Module) -> bool:
    return any(t.is_floating_point() and t.dtype != torch.float64 for t in _parameters_and_buffers(model))


def _parameters_and_buffers(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
