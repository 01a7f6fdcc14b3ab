"""A second opinion on what a graph computes: ONNX operators in torch, float64, one line or two for each.

Knows the operators of `random_graphs` and `table`, with asymmetric padding done by hand (torch has none), and
the project's operators from their formulas, not from their bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor

Attributes = Mapping[str, Any]


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of the main graph by name; float64 where the model says float64.

    Raises:
        KeyError: the graph has an operator that this evaluator does not know.
    """
    values: dict[str, Tensor | None] = {"": None}
    for initializer in model.graph.initializer:
        values[initializer.name] = torch.from_numpy(numpy_helper.to_array(initializer).copy())
    values.update({name: torch.from_numpy(value) for name, value in feeds.items()})
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [values[name] for name in node.input]
        values[node.output[0]] = OPERATORS[node.op_type](attributes, *inputs)
    return {name: value.numpy() for name, value in values.items() if value is not None}


def knows(model: onnx.ModelProto) -> bool:
    """Whether every node is one that this evaluator computes as ONNX defines it."""
    other_modes = {"ceil_mode", "training_mode"}
    return all(
        node.op_type in OPERATORS and not any(a.name in other_modes and a.i for a in node.attribute)
        for node in model.graph.node
    )


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *([1] * (x.dim() - 2)))


def _pads(attributes: Attributes, x: Tensor, window: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """(begin, end) per axis of space; SAME_* from the output size ceil(side / stride)."""
    rank = x.dim() - 2
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if not auto.startswith("SAME"):
        pads = list(attributes.get("pads", [0] * (2 * rank)))
        return pads[:rank], pads[rank:]
    strides, dilations = _steps(attributes, rank)
    begin, end = [], []
    for i, side in enumerate(x.shape[2:]):
        reach = (window[i] - 1) * dilations[i] + 1
        total = max((-(-side // strides[i]) - 1) * strides[i] + reach - side, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if auto == "SAME_UPPER" else large)
        end.append(large if auto == "SAME_UPPER" else small)
    return begin, end


def _steps(attributes: Attributes, rank: int) -> tuple[list[int], list[int]]:
    ones = [1] * rank
    return list(attributes.get("strides", ones)), list(attributes.get("dilations", ones))


def _padded(x: Tensor, begin: list[int], end: list[int], value: float) -> Tensor:
    """Constant padding (cropping where negative) of the axes of space."""
    both = [n for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair]
    return F.pad(x, both, value=value)


def _conv(attributes: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    strides, dilations = _steps(attributes, x.dim() - 2)
    x = _padded(x, *_pads(attributes, x, tuple(w.shape[2:])), 0.0)
    function = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
    return function(x, w, b, strides, 0, dilations, attributes.get("group", 1))


def _conv_transpose(attributes: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = _steps(attributes, rank)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    full = function(x, w, None, strides, 0, 0, attributes.get("group", 1), dilations)
    begin, end = _pads(attributes, x, tuple(w.shape[2:]))
    extra = attributes.get("output_padding", [0] * rank)
    y = _padded(full, [-n for n in begin], [more - n for more, n in zip(extra, end, strict=True)], 0.0)
    return y if b is None else y + _per_channel(b, y)


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    y = attributes.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attributes.get("beta", 1.0) * c


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel = tuple(attributes["kernel_shape"])
    strides, dilations = _steps(attributes, x.dim() - 2)
    x = _padded(x, *_pads(attributes, x, kernel), -torch.inf)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.dim() - 3]
    return function(x, kernel, strides, 0, dilations)


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel = tuple(attributes["kernel_shape"])
    strides, _ = _steps(attributes, x.dim() - 2)
    pads = _pads(attributes, x, kernel)
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.dim() - 3]
    y = function(_padded(x, *pads, 0.0), kernel, strides)
    if attributes.get("count_include_pad", 0):
        return y
    return y / function(_padded(torch.ones_like(x), *pads, 0.0), kernel, strides)


def _pad(attributes: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
    rank, amounts = x.dim(), pads.tolist()
    begin, end = amounts[:rank], amounts[rank:]
    mode = attributes.get("mode", b"constant").decode()
    if mode == "constant":
        return _padded(x, begin, end, 0.0 if value is None else float(value))
    for axis in range(rank):
        index = np.pad(np.arange(x.shape[axis]), (begin[axis], end[axis]), mode=mode)
        x = x.index_select(axis, torch.from_numpy(index))
    return x


def _batch_normalization(
    attributes: Attributes, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor
) -> Tensor:
    deviation = torch.sqrt(var + attributes.get("epsilon", float(np.float32(1e-5))))
    y = (x - _per_channel(mean, x)) / _per_channel(deviation, x)
    return y * _per_channel(gamma, x) + _per_channel(beta, x)


def _running_norm(_: Attributes, x: Tensor, mean: Tensor, inv_scale: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    y = (x - _per_channel(mean, x)) * _per_channel(inv_scale, x)
    return y * _per_channel(gamma, x) + _per_channel(beta, x)


def _live_norm(axes: str, statistic: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Callable[..., Tensor]:
    def norm(attributes: Attributes, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        over = tuple(i for i in range(x.dim()) if i > 1 or (i == 0 and axes == "batch"))
        d = x - x.mean(over, keepdim=True)
        y = d / (statistic(d, over) + attributes.get("epsilon", float(np.float32(1e-5))))
        return y * _per_channel(gamma, x) + _per_channel(beta, x)

    return norm


def _l1(d: Tensor, over: tuple[int, ...]) -> Tensor:
    return (np.pi / 2) ** 0.5 * d.abs().mean(over, keepdim=True)


def _linf(d: Tensor, over: tuple[int, ...]) -> Tensor:
    n = int(np.prod([d.shape[axis] for axis in over]))
    return (1 + np.sqrt(np.pi * np.log(4))) / np.sqrt(8 * np.log(n)) * d.abs().amax(over, keepdim=True)


def _bounded_weight_norm(attributes: Attributes, v: Tensor, rho: Tensor) -> Tensor:
    over = tuple(axis for axis in range(v.dim()) if axis != attributes["axis"])
    return rho * v / torch.linalg.vector_norm(v, attributes["p"], over, keepdim=True)


def _reduce_mean(attributes: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    return x.mean(tuple(axes.tolist()), keepdim=bool(attributes.get("keepdims", 1)))


def _reshape(attributes: Attributes, x: Tensor, target: Tensor) -> Tensor:
    copied = not attributes.get("allowzero", 0)
    return x.reshape([x.shape[i] if size == 0 and copied else size for i, size in enumerate(target.tolist())])


def _unsqueeze(_: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + axes.numel()
    new = {axis % rank for axis in axes.tolist()}
    sides = iter(x.shape)
    return x.reshape([1 if axis in new else next(sides) for axis in range(rank)])


def _space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


_TYPES = {10: torch.float16, 1: torch.float32, 11: torch.float64, 6: torch.int32}
OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "BoundedWeightNorm": _bounded_weight_norm,
    "Cast": lambda attributes, x: x.to(_TYPES[attributes["to"]]),
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Constant": lambda attributes: torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy()),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": lambda _, a, b: a / b,
    "Expand": lambda _, x, shape: x.expand(np.broadcast_shapes(x.shape, tuple(shape.tolist()))),
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(_space(x), keepdim=True),
    "GlobalMaxPool": lambda _, x: x.amax(_space(x), keepdim=True),
    "Identity": lambda _, x: x.clone(),
    "L1BatchNorm": _live_norm("batch", _l1),
    "LinfInstanceNorm": _live_norm("instance", _linf),
    "MatMul": lambda _, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Relu": lambda _, x: x.relu(),
    "RunningNorm": _running_norm,
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Squeeze": lambda _, x, axes: x.squeeze(tuple(axes.tolist())),
    "Tile": lambda _, x, repeats: x.tile(tuple(repeats.tolist())),
    "Transpose": lambda attributes, x: x.permute(attributes.get("perm", list(reversed(range(x.dim()))))),
    "Sub": lambda _, a, b: a - b,
    "Unsqueeze": _unsqueeze,
}
