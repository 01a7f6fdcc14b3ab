"""What batch, instance and group norms share: parameters, running statistics, and how they are stored."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from normexport.errors import UsageError
from normexport.nn import native
from normexport.nn.ops import call, live_norm, running_norm
from normexport.nn.ops.shared import is_shared, shared_norm
from normexport.nn.ops.support import is_recomputed, work_dtype
from normexport.norms import EPSILON_DEFAULT, KINDS, PARAMETERS, AffineParams, Scope

#: The buffers that hold running statistics.
STATISTICS = ("running_mean", "running_scale")


def _float64(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().cpu().double().numpy()
    return array


class Norm(nn.Module):
    """Base of every `{kind}{Batch,Instance}Norm{1,2,3}d` and `{kind}{Group,Layer}Norm`:

    `y = weight * (x - mean) / (stat + eps) + bias`.

    In training, and in evaluation without running statistics, mean and stat are those of x. Otherwise they are
    the buffers `running_mean` and `running_scale`, which training updates as torch.nn.BatchNorm does:
    `new = (1 - momentum) * old + momentum * observed`, or the plain average where momentum is None.
    Activation checkpointing runs forward a second time, within backward: there they stay (BatchNorm's move twice).

    Arguments, their order and the attributes are those of torch.nn.BatchNorm2d. `running_scale` holds the
    statistic itself (not its square, not its reciprocal), so eval multiplies by `1 / (running_scale + eps)`.
    Arithmetic is float32 (float64 for float64 x), under autocast too; y has the type of x.

    Args:
        num_features: C, the size of axis 1.
        eps: added to the statistic.
        momentum: share of the new observation; None averages over all batches since the last reset.
        affine: whether there are `weight` (ones) and `bias` (zeros), each (C,).
        track_running_stats: whether there are running statistics.
        bias: False leaves out `bias` alone.
        correction: 0.0 is the kind's own constant, any other value replaces it.
        k: of TopK: how many of the largest |d| are averaged; 10.
        chunks: of Range: how many pieces a channel is cut into; 16.

    Raises:
        TypeError: `k` or `chunks` for a kind that has no such parameter.
        UsageError: `k` or `chunks` below 1; in forward, k exceeds the elements reduced.
        ValueError: in forward, where torch.nn.BatchNorm raises it: wrong number of dimensions or channels, or
            training on one element per channel.
    """

    _version = 1
    kind: ClassVar[str]
    scope: ClassVar[Scope]
    ranks: ClassVar[tuple[int, ...]]

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_scale: Tensor | None
    num_batches_tracked: Tensor | None
    k: int
    chunks: int
    #: Of channels with statistics in common; 0 where the scope is no group.
    num_groups: int = 0
    #: Whether training has the statistics of all processes of `process_group`, None for the default group; see
    #: `synchronize_norms`.
    is_synchronized: bool = False
    process_group: Any = None

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            cls.kind = kind
            cls.__doc__ = f"{cls.__doc__}\n\nstat = {KINDS[kind].formula}. See `Norm` for arguments and errors.\n"

    def __init__(
        self,
        num_features: int,
        eps: float = EPSILON_DEFAULT,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        correction: float = 0.0,
        k: int | None = None,
        chunks: int | None = None,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats, self.correction = affine, track_running_stats, correction
        self._set_kind_parameters(k=k, chunks=chunks)
        self._register_affine(bias, device, dtype)
        self._register_statistics(device, dtype)
        self.reset_parameters()

    def _set_kind_parameters(self, **given: int | None) -> None:
        defaults = KINDS[self.kind].parameters
        for name, value in given.items():
            if name not in defaults:
                if value is not None:
                    raise TypeError(f"{type(self).__name__} has no parameter {name!r}")
                continue
            if value is not None and value < 1:
                raise UsageError(type(self).__name__, f"{name} = {value}", "choose at least 1")
            setattr(self, name, defaults[name] if value is None else value)

    def _register_affine(self, bias: bool, device: Any, dtype: torch.dtype | None) -> None:
        for name, wanted in (("weight", self.affine), ("bias", self.affine and bias)):
            values = torch.empty(self.num_features, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, None if values is None else nn.Parameter(values))

    def _register_statistics(self, device: Any, dtype: torch.dtype | None) -> None:
        names = (*STATISTICS, "num_batches_tracked")
        if not self.track_running_stats:
            for name in names:
                self.register_buffer(name, None)
            return
        for name in names[:2]:
            self.register_buffer(name, torch.empty(self.num_features, device=device, dtype=dtype))
        self.register_buffer(names[2], torch.zeros((), device=device, dtype=torch.long))

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running scale to 1 and the count of batches to 0."""
        if self.running_mean is None or self.running_scale is None or self.num_batches_tracked is None:
            return
        self.running_mean.zero_()
        self.running_scale.fill_(1)
        self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset the running statistics, and set weight to 1 and bias to 0."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *space) of any floating type -> y like x."""
        if isinstance(x, fx.Proxy):
            return self._as_one_node(x)
        self._check_input(x)
        if self.training or self.running_mean is None or self.running_scale is None:
            if not self.training and native.serves(self, x, self.weight, self.bias):
                return native.live(self, x, *self._affine(x))
            y, mean, stat = self.live(x)
            if self.training:
                self._update(x, mean.detach(), stat.detach())
            return y
        scale = self.running_scale
        # float16 has no 1e-5 to add, nor a 1e5 to hold.
        wide = scale if scale.dtype == work_dtype(scale) else scale.float()
        inv_scale = torch.reciprocal(wide + self.eps)
        normed: Tensor = call(running_norm, x, self.running_mean, inv_scale, *self._affine(x), self.kind)
        return normed

    def live(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(y, mean, stat) with the statistics of x (N, C, *space), no checks and no update; see `ops.live_norm`."""
        k, chunks = (getattr(self, name, 1) for name in PARAMETERS)
        if self._is_shared:
            own = {"correction": self.correction, "k": k, "chunks": chunks}
            weight, bias = self._affine(x)
            return shared_norm(x, weight, bias, self.process_group, self.kind, self.eps, **own)
        if native.trains(self, x, self.weight, self.bias):
            return native.train(self, x, *self._affine(x))
        how = (self.kind, self.scope.is_instance, self.eps, self.correction, k, chunks, self.num_groups)
        y, mean, stat = call(live_norm, x, *self._affine(x), *how)
        return y, mean, stat

    def _as_one_node(self, x: Any) -> Any:
        """Of a proxy of torch.fx: a call of this module, so that every tracer takes it for a leaf, as torch's norms."""
        return x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {})

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks of a module first: there is no TorchScript of these norms.

        Raises:
            UsageError: always.
        """
        remedy = "trace the model in evaluation with torch.jit.trace, or use torch.export"
        raise UsageError(type(self).__name__, "can't be compiled by torch.jit.script", remedy)

    @property
    def _is_shared(self) -> bool:
        """Whether this call has the statistics of several processes."""
        return self.training and self.is_synchronized and is_shared(self.process_group)

    def affine_params(self) -> AffineParams:
        """What evaluation computes per channel, float64: inv_scale is `1 / (running_scale + eps)`.

        Raises:
            UsageError: there are no running statistics.
        """
        if self.running_mean is None or self.running_scale is None:
            raise UsageError(type(self).__name__, "has no running statistics", "build it with track_running_stats=True")
        weight, bias = (None if each is None else _float64(each) for each in (self.weight, self.bias))
        inv_scale = 1 / (_float64(self.running_scale) + self.eps)
        return AffineParams.of(_float64(self.running_mean), inv_scale, weight, bias)

    def _affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        dtype = work_dtype(x)
        weight = x.new_ones(x.shape[1], dtype=dtype) if self.weight is None else self.weight
        return weight, x.new_zeros(x.shape[1], dtype=dtype) if self.bias is None else self.bias

    def _update(self, x: Tensor, mean: Tensor, stat: Tensor) -> None:
        if self.running_mean is None or self.running_scale is None or self.num_batches_tracked is None:
            return
        if (x.numel() == 0 and not self._is_shared) or is_recomputed():  # nothing was observed, or nothing anew
            return
        if torch._C._functorch.is_batchedtensor(mean) and not torch._C._functorch.is_batchedtensor(self.running_mean):
            remedy = "build it with track_running_stats=False, or evaluate it"
            raise UsageError(type(self).__name__, "has running statistics, one for all that vmap maps over", remedy)
        self.num_batches_tracked.add_(1)
        # As a tensor, so that torch.compile meets no host value: 1 / count changes with every batch.
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.to(stat.dtype)
        if self.scope.is_instance:
            mean, stat = mean.mean(0), stat.mean(0)
        self.running_mean.mul_(1 - share).add_(share * mean)
        self.running_scale.mul_(1 - share).add_(share * stat)

    def _check_input(self, x: Tensor) -> None:
        raise NotImplementedError

    def _check_rank(self, x: Tensor) -> None:
        if x.dim() not in self.ranks:
            expected = " or ".join(f"{rank}D" for rank in self.ranks)
            raise ValueError(f"expected {expected} input (got {x.dim()}D input)")

    def _check_features(self, x: Tensor, dim: int) -> None:
        if x.shape[dim] != self.num_features:
            raise ValueError(
                f"expected input's size at dim={dim} to match num_features ({self.num_features}), "
                f"but got: {x.shape[dim]}."
            )

    def extra_repr(self) -> str:
        text = (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
        own = [f"{name}={getattr(self, name)}" for name in KINDS[self.kind].parameters]
        return ", ".join([text, *own, *([f"correction={self.correction}"] if self.correction else [])])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Keys and shapes of all kinds are the same; the metadata (torch.save keeps it) tells them apart.
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]].update(kind=self.kind, eps=self.eps)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        refusal = self._refuse_to_load(state_dict, prefix, local_metadata)
        if refusal:
            error_msgs.append(f"{prefix[:-1] or type(self).__name__}: {refusal}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _refuse_to_load(self, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> str | None:
        """Why this state_dict would be misread, in words; None where it would not."""
        name, convert = type(self).__name__, "load it into the model it was trained in and use convert_norms"
        if prefix + "running_var" in state_dict:
            return (
                f"running_var is a variance (torch.nn.BatchNorm) or an older layer's multiplier, and {name} keeps "
                f"running_scale; {convert}"
            )
        stored = metadata.get("kind", self.kind)
        if stored != self.kind:
            return f"these are running statistics of kind {stored!r}, and {name} is {self.kind!r}; {convert}"
        if metadata.get("version", 1) > self._version:
            return f"stored by a newer version ({metadata['version']}) of {name}; upgrade normexport"
        return None
