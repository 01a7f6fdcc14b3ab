"""How the library's torch operators become ONNX nodes: one node each, of domain `normexport`.

Bodies are attached after the export (`bodies.py`): an operator given to the exporter with its body would be
inlined by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript.values import Opset
from torch.export import ExportedProgram

import normexport.nn  # noqa: F401 - registers torch.ops.normexport
from normexport import norms
from normexport.dtypes import HALVES, onnx_numbers
from normexport.errors import ExportError
from normexport.onnx_export.elementary import elementary_functions
from normexport.onnx_export.recurrent import recurrent_translations

_OPSET = Opset(norms.DOMAIN, norms.VERSION)
_STANDARD = Opset("", norms.OPSET)
_BITS = 8  # of QuantizeLinear in opset 20
_HALF = onnx_numbers(HALVES)


def _running_norm(x: Any, mean: Any, inv_scale: Any, scale: Any, bias: Any, kind: str) -> Any:
    return _OPSET.RunningNorm(x, *map(_wide, (mean, inv_scale, scale, bias)), kind=kind)


def _wide(vector: Any) -> Any:
    """Half-precision parameters as float32, the type in which the operators take them and compute."""
    return _STANDARD.Cast(vector, to=ir.DataType.FLOAT.value) if vector.dtype in _HALF else vector


def _live_norm(
    x: Any,
    scale: Any,
    bias: Any,
    kind: str,
    instance: bool,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
    num_groups: int = 0,
) -> tuple[Any, Any, Any]:
    given, scope = {"k": k, "chunks": chunks, "num_groups": num_groups}, norms.Scope.of(instance, num_groups)
    parameters = {name: given[name] for name in (*norms.kind(kind).parameters, *scope.parameters)}
    op = getattr(_OPSET, norms.kind(kind).op(scope))
    y = op(x, _wide(scale), _wide(bias), epsilon=epsilon, correction=correction, **parameters)
    # The mean and the statistic are for training. The exporter wants a value for each: these are read by nothing
    # (`require_inference`) and tidied away.
    return y, _STANDARD.Identity(scale), _STANDARD.Identity(scale)


def _bounded_weight_norm(v: Any, rho: Any, axis: int, p: float) -> Any:
    return _OPSET.BoundedWeightNorm(v, rho, axis=axis, p=p)


def _uniform_quantize(x: Any, centre: Any, step: Any, bits: int) -> Any:
    """The grid of int8 with zero point 0, which every runtime takes: the centre is taken off before and put back.

    Coarser grids are cut from it; finer ones, for which opset 20 has no QuantizeLinear, are written out.
    """
    half = 2 ** (bits - 1)
    centred = _STANDARD.Sub(x, centre)
    if bits > _BITS:
        levels = _STANDARD.Round(_STANDARD.Div(centred, step))
        low, high = (_STANDARD.Constant(value_float=float(each)) for each in (-half, half - 1))
        return _STANDARD.Add(_STANDARD.Mul(_STANDARD.Clip(levels, low, high), step), centre)
    zero = _STANDARD.Constant(value=ir.tensor(np.zeros((), np.int8)))
    rounded = _STANDARD.DequantizeLinear(_STANDARD.QuantizeLinear(centred, step, zero), step, zero)
    if bits < _BITS:
        ends = (_STANDARD.Mul(_STANDARD.Constant(value_float=float(each)), step) for each in (-half, half - 1))
        rounded = _STANDARD.Clip(rounded, *ends)
    return _STANDARD.Add(rounded, centre)


def _fake_quantize(x: Any, scale: Any, zero_point: Any, low: int, high: int, axis: int) -> Any:
    """A pair of int8 or uint8, whichever has these integers; where they are fewer, a Clip of the integers between.

    Integers that neither has are moved to begin with 0, which leaves the numbers; more than 256 are written out.
    """
    along = {} if axis < 0 else {"axis": axis}
    if axis < 0:  # of one scale QuantizeLinear takes a scalar
        scalar = _STANDARD.Constant(value=ir.tensor(np.zeros((0,), np.int64)))
        scale, zero_point = _STANDARD.Reshape(scale, scalar), _STANDARD.Reshape(zero_point, scalar)
    if high - low >= 2**_BITS:
        return _written_out(x, scale, zero_point, low, high, axis)
    signed = low >= -(2 ** (_BITS - 1)) and high < 2 ** (_BITS - 1)
    first = 0 if signed or (low >= 0 and high < 2**_BITS) else low
    if first:
        zero_point = _STANDARD.Sub(zero_point, _STANDARD.Constant(value_int=first))
    kind = ir.DataType.INT8 if signed else ir.DataType.UINT8
    zero = _STANDARD.Cast(zero_point, to=kind.value)
    whole = _STANDARD.QuantizeLinear(x, scale, zero, **along)
    ends = np.iinfo(kind.numpy())
    if (low - first, high - first) != (ends.min, ends.max):
        limits = (np.asarray(each - first, kind.numpy()) for each in (low, high))
        whole = _STANDARD.Clip(whole, *(_STANDARD.Constant(value=ir.tensor(each)) for each in limits))
    return _STANDARD.DequantizeLinear(whole, scale, zero, **along)


def _written_out(x: Any, scale: Any, zero_point: Any, low: int, high: int, axis: int) -> Any:
    """The same by Round and Clip."""
    if axis >= 0:
        shape = [-1 if each == axis else 1 for each in range(len(x.shape))]
        along = _STANDARD.Constant(value_ints=shape)
        scale, zero_point = _STANDARD.Reshape(scale, along), _STANDARD.Reshape(zero_point, along)
    zero = _STANDARD.CastLike(zero_point, x)
    levels = _STANDARD.Add(_STANDARD.Round(_STANDARD.Div(x, scale)), zero)
    ends = (_STANDARD.Constant(value_float=float(each)) for each in (low, high))
    return _STANDARD.Mul(_STANDARD.Sub(_STANDARD.Clip(levels, *ends), zero), scale)


def _weight_norm(v: Any, g: Any, dim: int = 0) -> tuple[Any, Any]:
    """torch's weight norm g * v / ||v||, the norm over all axes but `dim`.

    The form that torch itself gives the exporter takes the norm over everything where v has no other axis.
    """
    axes = [axis for axis in range(len(v.shape)) if axis != dim]
    exact = _STANDARD.Cast(v, to=ir.DataType.FLOAT.value) if v.dtype == ir.DataType.BFLOAT16 else v
    norm = _STANDARD.ReduceL2(exact, _STANDARD.Constant(value_ints=axes)) if axes else _STANDARD.Abs(exact)
    return _STANDARD.Mul(v, _STANDARD.Div(g, _STANDARD.CastLike(norm, g))), norm


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """torch operator -> function that emits its ONNX node, for `torch.onnx.export(custom_translation_table=)`."""
    norms.register_schemas()
    ops = torch.ops.normexport
    return {
        ops.running_norm.default: _running_norm,
        ops.live_norm.default: _live_norm,
        ops.bounded_weight_norm.default: _bounded_weight_norm,
        ops.uniform_quantize.default: _uniform_quantize,
        ops.fake_quantize.default: _fake_quantize,
        torch.ops.aten._weight_norm_interface.default: _weight_norm,
        **elementary_functions(),
        **recurrent_translations(),
    }


def require_inference(program: ExportedProgram) -> None:
    """Refuse a program that reads a live norm's mean or statistic: it was traced in training mode.

    Raises:
        ExportError: naming the node.
    """
    for node in program.graph.nodes:
        is_live = node.target is torch.ops.normexport.live_norm.default
        if is_live and any(user.args[1] != 0 and user.users for user in node.users):
            raise ExportError(
                node.name, "updates running statistics: the model was traced in training mode", "call eval() first"
            )


def require_lstm_forms(program: ExportedProgram, place: str) -> None:
    """Refuse LSTMs whose state is projected: ONNX's LSTM has no projection, and the exporter takes its weights for
    those of the next direction.

    Raises:
        ExportError: naming the module.
    """
    for node in program.graph.nodes:
        if node.target is not torch.ops.aten.lstm.input:
            continue
        weights, has_biases, layers, bidirectional = node.args[2], node.args[3], node.args[4], node.args[7]
        if len(weights) != layers * (2 if bidirectional else 1) * (4 if has_biases else 2):
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            path = str(stack[-1][0]) if stack else ""
            cause = f"has no ONNX form: the LSTM {path or node.name} projects its state (proj_size)"
            raise ExportError(place, cause, "write its steps with nn.LSTMCell and nn.Linear")
