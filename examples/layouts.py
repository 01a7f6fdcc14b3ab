"""Norms as two public projects store them, for evaluation, and the way from a trained norm of ours into them.

Both projects average the multiplier 1/d (d is the denominator in training) and call it `running_var`. A network
built with these classes stands for a user's own code: it computes what those projects compute, from their keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normexport.errors import UsageError
from normexport.nn import Norm


class StoredNorm2d(nn.Module):
    """y = (x - running_mean) * running_var * gamma + beta, x (N, C, H, W), all four (C,).

    `gamma_key` and `beta_key` are the names under which the affine parameters stand in a state_dict.
    """

    gamma_key: str
    beta_key: str
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_parameter(self.gamma_key, nn.Parameter(torch.ones(channels)))
        self.register_parameter(self.beta_key, nn.Parameter(torch.zeros(channels)))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        vectors = (self.running_mean, self.running_var, getattr(self, self.gamma_key), getattr(self, self.beta_key))
        mean, multiplier, gamma, beta = (vector.view(1, -1, 1, 1) for vector in vectors)
        return (input - mean) * multiplier * gamma + beta


class LpNormLayout(StoredNorm2d):
    """norm_matters, models/lp_norm.py: `scale` is gamma and `mean` is beta."""

    gamma_key, beta_key = "scale", "mean"


class ConvNetLayout(StoredNorm2d):
    """convNet.pytorch, models/modules/lp_norm.py: the keys of torch.nn.BatchNorm2d, with another meaning."""

    gamma_key, beta_key = "weight", "bias"


#: By the value of `--dialect` that names the layout.
LAYOUTS: dict[str, type[StoredNorm2d]] = {"lp-norm": LpNormLayout, "convnet-lp": ConvNetLayout}


def layout_of(name: str) -> type[StoredNorm2d]:
    """The norm of that layout.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in LAYOUTS:
        raise UsageError(f"layout {name!r}", "is not known", f"choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def fill(stored: nn.Module, trained: nn.Module) -> None:
    """Give `stored`, a network of `StoredNorm2d`, what `trained`, the same network of our norms, has learned.

    Modules correspond by path; a multiplier is 1/(running_scale + eps), computed in float64.
    """
    learned = dict(trained.named_modules())
    with torch.no_grad():
        for path, module in stored.named_modules():
            source = learned[path]
            if isinstance(source, Norm):
                _fill_norm(module, source)
            elif not list(module.children()):
                module.load_state_dict(source.state_dict())


def _fill_norm(stored: nn.Module, trained: Norm) -> None:
    params = trained.affine_params()
    values = (params.mean, params.inv_scale, params.gamma, params.beta)
    targets = (stored.running_mean, stored.running_var, *(getattr(stored, key) for key in _affine_keys(stored)))
    for target, value in zip(targets, values, strict=True):
        target.copy_(torch.from_numpy(value))


def _affine_keys(stored: nn.Module) -> tuple[str, str]:
    assert isinstance(stored, StoredNorm2d)
    return stored.gamma_key, stored.beta_key
