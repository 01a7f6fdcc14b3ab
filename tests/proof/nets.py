"""Small torch nets written out as ONNX by hand, unfolded or folded in float64, with faults on demand.

Independent of the exporter and of the fold under test: parity must judge them, not lean on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from normexport.onnx_export import InputSpec, Layer
from tests.narrow import present


class Norm(nn.Module):
    """Eval arithmetic of the original layers: (x - mean) * inv_scale * weight + bias."""

    mean: torch.Tensor
    inv_scale: torch.Tensor

    def __init__(self, channels: int, *, offset: float = 0.0, sigma: float = 1.0, eps: float = 1e-5) -> None:
        super().__init__()
        scale = sigma * (0.5 + torch.rand(channels))
        self.eps, self.scale = eps, scale
        self.register_buffer("mean", offset + sigma * 0.3 * torch.randn(channels))
        self.register_buffer("inv_scale", 1 / (scale + eps))
        self.weight = nn.Parameter(torch.randn(channels).sign() * (0.5 + torch.rand(channels)))
        self.bias = nn.Parameter(0.3 * torch.randn(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        mean, inv_scale = self.mean.view(shape), self.inv_scale.view(shape)
        return (x - mean) * inv_scale * self.weight.view(shape) + self.bias.view(shape)


class Residual(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)  # type: ignore[no-untyped-call]  # torch says no types there


@dataclass(frozen=True)
class Affine:
    """A conv or linear with its norm, as the fold sees them: float64 arrays."""

    path: str
    weight: np.ndarray
    bias: np.ndarray
    a: np.ndarray
    b: np.ndarray
    norm: Norm

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        return self.weight * self.a.reshape(-1, *[1] * (self.weight.ndim - 1)), self.a * self.bias + self.b


Fault = Callable[[Affine], tuple[np.ndarray, np.ndarray]]


@dataclass
class Written:
    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]


@dataclass
class Writer:
    """Walks a net of Sequential, Residual, Conv, Linear, Norm, ReLU, MaxPool2d, AdaptiveAvgPool2d, Flatten."""

    fold: bool = True
    faults: dict[str, Fault] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    def write(self, net: nn.Sequential, shape: tuple[int, ...]) -> Written:
        out = self._sequence(net, "", "x")
        sample = net.eval()(torch.zeros(1, *shape))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["n", *sample.shape[1:]])],
            self.tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return Written(model, tuple(self.layers), (InputSpec("x", shape),), (out,))

    def _sequence(self, net: nn.Sequential, path: str, value: str) -> str:
        children = [(f"{path}.{name}".lstrip("."), child) for name, child in net.named_children()]
        position = 0
        while position < len(children):
            name, child = children[position]
            follower = children[position + 1][1] if position + 1 < len(children) else None
            if self.fold and isinstance(child, (nn.Conv2d, nn.Linear)) and isinstance(follower, Norm):
                value = self._folded(name, child, children[position + 1][0], follower, value)
                position += 2
                continue
            value = self._module(name, child, value)
            position += 1
        return value

    def _module(self, path: str, module: nn.Module, value: str) -> str:
        out = f"{path}.out"
        if isinstance(module, Residual):
            inner = self._sequence(module, path, value)
            self._node("Add", [value, inner], out)
        elif isinstance(module, nn.Sequential):
            out = self._sequence(module, path, value)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            bias = module.bias.detach().numpy() if module.bias is not None else np.zeros(len(module.weight), "f4")
            self._affine(path, module, value, module.weight.detach().numpy(), bias, out)
        elif isinstance(module, Norm):
            a, b = coefficients(module)
            shape = (-1,) if self._rank(module) == 2 else (-1, 1, 1)
            scaled = f"{path}.scaled"
            self._node("Mul", [value, self._tensor(f"{path}.a", a.reshape(shape))], scaled)
            self._node("Add", [scaled, self._tensor(f"{path}.b", b.reshape(shape))], out)
        elif isinstance(module, nn.MaxPool2d):
            self._node("MaxPool", [value], out, kernel_shape=[module.kernel_size] * 2, strides=[module.stride] * 2)
        else:
            op = {nn.ReLU: "Relu", nn.Flatten: "Flatten", nn.AdaptiveAvgPool2d: "GlobalAveragePool", nn.Tanh: "Tanh"}
            self._node(op[type(module)], [value], out)
        self.layers.append(Layer(path, 0, type(module).__name__, out))
        return out

    def _rank(self, module: nn.Module) -> int:
        return 2 if getattr(module, "flat", False) else 4

    def _folded(self, path: str, module: nn.Conv2d | nn.Linear, norm_path: str, norm: Norm, value: str) -> str:
        weight = module.weight.detach().double().numpy()
        bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().double().numpy()
        affine = Affine(path, weight, bias, *coefficients(norm), norm)
        weight, bias = self.faults.get(norm_path, Affine.folded)(affine)
        out = f"{norm_path}.out"
        self._affine(path, module, value, weight, bias, out)
        self.layers.append(Layer(norm_path, 0, "Norm", out))
        return out

    def _affine(self, path: str, module: nn.Module, value: str, weight: np.ndarray, bias: np.ndarray, out: str) -> None:
        inputs = [value, self._tensor(f"{path}.weight", weight), self._tensor(f"{path}.bias", bias)]
        if isinstance(module, nn.Linear):
            self._node("Gemm", inputs, out, transB=1)
            return
        assert isinstance(module, nn.Conv2d)
        pads = [*module.padding, *module.padding]
        self._node("Conv", inputs, out, pads=pads, strides=list(module.stride), group=module.groups)

    def _node(self, op: str, inputs: list[str], out: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))

    def _tensor(self, name: str, array: np.ndarray) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name


def coefficients(norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """A = inv_scale*weight and B = bias - mean*A, float64."""
    mean, inv_scale = norm.mean.double().numpy(), norm.inv_scale.double().numpy()
    a = inv_scale * norm.weight.detach().double().numpy()
    return a, norm.bias.detach().double().numpy() - mean * a


def plain(depth: int, width: int, *, outputs: int = 10, offset: float = 0.0, groups: int = 1) -> nn.Sequential:
    """`depth` times conv 3x3, norm, ReLU; pool; linear."""
    layers: list[nn.Module] = []
    channels = 3
    for index in range(depth):
        conv = nn.Conv2d(channels, width, 3, padding=1, groups=1 if index == 0 else groups)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.normal_(present(conv.bias), offset, 0.3)
        layers += [conv, Norm(width, offset=offset), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


def residual(depth: int, width: int, *, outputs: int = 10) -> nn.Sequential:
    blocks = [
        Residual(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            Norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            Norm(width),
        )
        for _ in range(depth)
    ]
    stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), Norm(width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


def wide(sizes: list[int], *, offset: float = 0.0, first_norm: bool = False) -> nn.Sequential:
    """Linear, norm, ReLU over `sizes`; with `first_norm` the input is normalized first, as tabular data is."""
    layers: list[nn.Module] = [Norm(sizes[0], offset=offset)] if first_norm else []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        layers += [linear, Norm(fan_out), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    for module in net:
        setattr(module, "flat", True)  # noqa: B010 - no attribute that its type has
    return net


def tiny_model(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], width: int, outputs: tuple[str, ...] = ("y",)
) -> ir.Model:
    """A model of these nodes from `x` (n, width) to `outputs` (n, width)."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
