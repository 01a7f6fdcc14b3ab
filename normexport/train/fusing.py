"""Our norms for torch.ao.quantization.fuse_modules: folded into the layer before them, in evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.ao.nn import intrinsic

from normexport.errors import UsageError
from normexport.nn import RunningNorm
from normexport.nn.batch import BASES
from normexport.nn.derived import class_of
from normexport.norms import KINDS
from normexport.train.vectors import LINEAR_LAYERS, spread

_WITH_RELU: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: intrinsic.ConvReLU1d,
    nn.Conv2d: intrinsic.ConvReLU2d,
    nn.Conv3d: intrinsic.ConvReLU3d,
    nn.Linear: intrinsic.LinearReLU,
}


def fuser_methods() -> dict[str, Any]:
    """What `fuse_modules` of PyTorch takes as `fuse_custom_config_dict`, so that it fuses layers with these norms.

        own = fuser_methods()
        torch.ao.quantization.fuse_modules(model.eval(), [["conv", "bn", "relu"]], fuse_custom_config_dict=own)

    Fused are convolutions, transposed ones and Linear with a batch norm of any kind or a `RunningNorm` behind them,
    and a ReLU behind that where PyTorch has a module of the two. The weight is multiplied by gamma/(running_scale +
    eps), in float64. There is no layer that trains with one of these norms inside: `fuse_modules_qat` is refused.
    """
    norms: list[type[nn.Module]] = [class_of(kind, base) for kind in KINDS.values() for base in BASES]
    methods: dict[tuple[type[nn.Module], ...], Callable[..., nn.Module]] = {}
    for layer, norm in product(LINEAR_LAYERS, [*norms, RunningNorm]):
        methods[layer, norm] = _fuse
        if layer in _WITH_RELU:
            methods[layer, norm, nn.ReLU] = _fuse_with_relu
    return {"additional_fuser_method_mapping": methods}


def _fuse(is_qat: bool, layer: nn.Module, norm: Any) -> nn.Module:
    """layer'(x) = norm(layer(x)).

    Raises:
        UsageError: for training; in training; of other channels; or without running statistics.
    """
    place = f"{type(layer).__name__} and {type(norm).__name__}"
    if is_qat or layer.training or norm.training:
        cause = "can't be fused for training: no layer trains with this norm inside"
        raise UsageError(place, cause, "fuse in evaluation, or leave them apart and quantise around them")
    params = norm.affine_params()
    fused: Any = copy.deepcopy(layer)
    weight = fused.weight.detach()
    scale, shift = (torch.from_numpy(each) for each in params.coefficients())
    channels = fused.out_features if isinstance(layer, nn.Linear) else fused.out_channels
    if scale.numel() != channels:
        raise UsageError(place, f"have {channels} and {scale.numel()} channels", "name a norm of the layer's output")
    bias = torch.zeros(channels) if fused.bias is None else fused.bias.detach().cpu()
    folded = weight.cpu().double() * spread(scale, fused)
    fused.weight = nn.Parameter(folded.to(weight), requires_grad=fused.weight.requires_grad)
    fused.bias = nn.Parameter((bias.double() * scale + shift).to(weight), requires_grad=fused.weight.requires_grad)
    whole: nn.Module = fused
    return whole


def _fuse_with_relu(is_qat: bool, layer: nn.Module, norm: Any, relu: nn.Module) -> nn.Module:
    fused: Any = _fuse(is_qat, layer, norm)
    both: nn.Module = _WITH_RELU[type(layer)](fused, relu)
    return both
