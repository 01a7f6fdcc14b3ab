"""`convert_norms`: turn a network trained with torch's norms into one of another kind that still works."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from normexport.errors import UsageError
from normexport.nn.base import Norm
from normexport.nn.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from normexport.nn.derived import class_of
from normexport.nn.estimate import Estimator, Forward, call_on_batch, estimate
from normexport.nn.group import GroupNorm, LayerNorm
from normexport.nn.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from normexport.norms import NormKind
from normexport.norms import kind as kind_of

#: Torch's norms, and what each becomes with the statistic of a kind.
_BATCH: dict[type[nn.Module], type[Norm]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}
_INSTANCE: dict[type[nn.Module], type[Norm]] = {
    nn.InstanceNorm1d: InstanceNorm1d,
    nn.InstanceNorm2d: InstanceNorm2d,
    nn.InstanceNorm3d: InstanceNorm3d,
}
_GROUP: dict[type[nn.Module], type[Norm]] = {nn.GroupNorm: GroupNorm}
_LAYER: dict[type[nn.Module], type[Norm]] = {nn.LayerNorm: LayerNorm}


def convert_norms(
    model: nn.Module,
    kind: str,
    *,
    data: Iterable[Any] | None = None,
    k: int | None = None,
    chunks: int | None = None,
    correction: float = 0.0,
    eps: float | None = None,
    match_scale: bool = True,
    instance_norms: bool = False,
    group_norms: bool = False,
    layer_norms: bool = False,
    forward: Forward = call_on_batch,
) -> nn.Module:
    """A copy of `model` in which every torch BatchNorm is a norm of `kind`; `model` itself is not touched.

    Weight, bias, eps, momentum, train or eval mode, dtype and device are kept. With `data`, one pass over it, in
    which every norm uses the statistics of its input and all else is in evaluation, gives the running statistics (plain
    averages over the batches). With `match_scale` the weight is also multiplied, per channel, by
    `(stat + eps) / sqrt(var + eps)`, the new statistic over the old one on the same batches, so that the
    converted network computes what the old one did, up to the noise of the estimates: L-infinity and Top-k are
    1.2 to 1.5 sigma, and the network was trained with sigma. A norm without a weight gets a frozen one for
    that. Take batches of the training size: a maximum grows with the number of elements.

    Group and layer norms have no running statistics: with `data` their weights are matched, by one ratio for all
    channels of a group, or for all of a layer (averages over samples and batches).

    Args:
        model: its BatchNorm1d to 3d are converted.
        kind: a key of `normexport.norms.KINDS`: "l1".
        data: batches. An input tensor; or (input, labels...), where input may be a tuple of inputs; or a dict,
            of which the entries that `model.forward` names are passed. Tensors move to the model's device.
        k, chunks, correction: of the new norms, see `Norm`.
        eps: of the new norms; None keeps each layer's own.
        match_scale: False keeps the weights, for a network that will be trained on.
        instance_norms: convert InstanceNorm1d to 3d too.
        group_norms: convert GroupNorm too.
        layer_norms: convert LayerNorm too.
        forward: `forward(model, batch)` runs the model, where a batch looks otherwise.

    Warns:
        UserWarning: without `data`: running statistics are at 0 and 1 and nothing was matched; with it: norms
            that no batch reached; and norms left alone because their class has a forward of its own.

    Raises:
        UsageError: no norm to convert, a lazy module without a size yet, `data` holds no batch or one that can't be
            passed on, statistics that are not finite, k beyond the elements of a channel.
        TypeError: `k` or `chunks` for a kind that has no such parameter.
    """
    _refuse_lazy(model)
    converted = copy.deepcopy(model)
    classes = dict(_BATCH)
    for asked, more in ((instance_norms, _INSTANCE), (group_norms, _GROUP), (layer_norms, _LAYER)):
        classes |= more if asked else {}
    settings = {"k": k, "chunks": chunks, "correction": correction}
    estimators: dict[nn.Module, Estimator] = {}
    for path, old in _norms_of(converted, classes):
        new = _successor(old, kind_of(kind), classes, eps, settings)
        estimators[old] = Estimator(path or type(old).__name__, old, new, match_scale)
    if not estimators:
        remedy = "pass a model with torch.nn.BatchNorm1d, 2d or 3d in it, or say which other norms: group_norms=True"
        raise UsageError(type(model).__name__, "has no norm to convert", remedy)
    if data is None:
        _warn_unestimated(kind, [each.new for each in estimators.values()])
    else:
        converted = _replace(converted, estimators)
        estimate(converted, data, forward)
    # A norm is an old one where there was no data, else still the estimator that took its place.
    finished: dict[nn.Module, nn.Module] = {}
    for old, each in estimators.items():
        finished[old] = finished[each] = each.finish()
    return _replace(converted, finished)


def _refuse_lazy(model: nn.Module) -> None:
    """A lazy module can't be copied, and a lazy norm has no channels."""
    for path, module in model.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]  # a mixin types its self as another class
            place = path or type(module).__name__
            raise UsageError(place, "is lazy and has no size yet", "run the model on one batch first")


def _norms_of(model: nn.Module, classes: Iterable[type[nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Path and module of each norm to convert; a shared one once."""
    found = []
    for path, module in model.named_modules():
        base = _base(module, classes)
        if base is not None and type(module).forward is base.forward:
            found.append((path, module))
        elif base is not None or isinstance(module, _BatchNorm):
            warnings.warn(
                f"{path}: {type(module).__name__} has a forward of its own and is left as it is", stacklevel=3
            )
    return found


def _base(module: nn.Module, classes: Iterable[type[nn.Module]]) -> type[nn.Module] | None:
    return next((base for base in classes if isinstance(module, base)), None)


def _successor(
    old: Any,
    kind: NormKind,
    classes: Mapping[type[nn.Module], type[Norm]],
    eps: float | None,
    settings: Mapping[str, Any],
) -> Norm:
    """The new norm with the old one's size, weight, bias and mode; its running statistics are at 0 and 1."""
    base = _base(old, classes)
    assert base is not None
    own: dict[str, Any] = dict(settings, eps=old.eps if eps is None else eps, bias=old.bias is not None)
    if base is nn.GroupNorm:
        own |= {"num_groups": old.num_groups, "num_channels": old.num_channels, "affine": old.affine}
    elif base is nn.LayerNorm:
        own |= {"normalized_shape": old.normalized_shape, "elementwise_affine": old.elementwise_affine}
    else:
        own |= {name: getattr(old, name) for name in ("num_features", "momentum", "affine")}
        own["track_running_stats"] = old.running_mean is not None
    like = getattr(old, "running_mean", None)
    like = old.weight if like is None else like
    if like is not None:
        own |= {"device": like.device, "dtype": like.dtype}
    new = class_of(kind, classes[base])(**own)
    for name in ("weight", "bias"):
        value = getattr(old, name)
        if value is not None:
            setattr(new, name, nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad))
    return new.train(old.training)


def _replace(model: nn.Module, substitutes: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """`model` with each key exchanged for its value wherever it stands, at the root too."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # named_children would leave out a second name
            if child is not None and child in substitutes:
                setattr(parent, name, substitutes[child])
    return substitutes.get(model, model)


def _warn_unestimated(kind: str, made: Sequence[Norm]) -> None:
    running = sum(norm.running_mean is not None for norm in made)
    what = f"the running statistics of {running} {kind} norms stay at mean 0 and scale 1, and " if running else ""
    warnings.warn(
        f"without data {what}the weights of {len(made)} {kind} norms stay those of torch's norms: train the network, "
        "or pass data=, before evaluating it",
        stacklevel=3,
    )
