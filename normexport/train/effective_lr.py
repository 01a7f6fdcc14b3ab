"""Equation 4: a run without weight decay that takes the effective steps of a run with it.

Only the direction of a scale-invariant vector w matters, and a gradient step of size eta turns it by eta/||w||^2
times what it would turn a unit vector: the gradient is g(w) = g(w/||w||)/||w||, the step turns w by its length over
||w||. Weight decay shrinks w and so enlarges those turns. A run that does not decay its vector v takes the same with
`eta_hat = eta * ||v||^2 / ||w||^2` (Hoffer et al. 2018, "Norm matters", eq. 4).

**Where it enters with momentum.** Let v = w/s for a number s per vector, at every step. Of SGD with momentum mu, step
size eta and decay lambda inside the gradient, m' = mu*m + g(w) + lambda*w and w' = w - eta*m', this holds: with u' =
mu*u + g(v), v' = v - eta*u'/(s*s') is w'/s' exactly, where s' = s - eta*b', b' = mu*b + lambda*s, b = 0 at first. (By
induction m = u/s + b*v.) So the buffer holds the gradients as they come, and the step is what is multiplied: by
1/(s*s'), of which eq. 4 takes 1/s^2 = ||v||^2/||w||^2, both before the step. The two differ by the part by which
decay shortens w in one step, eta*lambda/(1 - mu): 5e-4 of a step for eta = 0.1, lambda = 5e-4, mu = 0.9. Nesterov's
step differs from it in the same order.

**Adam** divides by the size of the gradients, so that a step turns w by 1/||w|| of its length, not 1/||w||^2. AdamW
decays beside the step: w' = (1 - eta*lambda)*w - eta*a with a of the gradients g(w) = g(v)/s. Then v' = v - eta*a/s'
is w'/s': the optimizer is given g/s, the recorded run's gradients, and its step is multiplied by 1/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from normexport.errors import UsageError
from normexport.train.invariance import ScaleInvariance, find_scale_invariant, layers_of, trainable_weight
from normexport.train.recorder import require_some
from normexport.train.recording import ChannelNorms
from normexport.train.steps import InnermostStep, was_skipped
from normexport.train.vectors import spread, vector_norms, vector_products

#: Their step does not depend on where the parameter is, so it can be taken from zero.
_OPTIMIZERS = (SGD, Adam, AdamW)


class EffectiveLR:
    """Makes every step of `optimizer` turn the scale-invariant weights as far as the recorded run turned its own.

    With r = ||v||/||w||, v this run's vector and w the recorded one, both before a step: SGD's step is multiplied by
    r^2; Adam's is taken of r*gradient and multiplied by r. Hooks, closures, schedulers, parameter groups and
    GradScaler stay as they are, and so do parameters that are not scale invariant. A vector of norm zero in either
    run has no direction; it is stepped as ever. Gradients are smaller than the recorded run's by r, which matters
    where they are clipped.

    Args:
        optimizer: SGD, Adam or AdamW, without weight decay for these weights.
        model: the one that it trains.
        reference: the recorded norms of the run with weight decay, of `read_channel_norms`. Step t of this run, counted
            as the recorder counts, follows step t of that one.
        example: see `find_scale_invariant`.
        layers: what `find_scale_invariant` found, where that is asked with more arguments.
        exact: multiply by r*r' (Adam: r') with r' = ||v||/||w|| after the step, where equation 4 has r twice: then this
            run's directions are the recorded ones to the last digits. The last recorded step is equation 4's, and
            Nesterov's momentum is not exact.

    Raises:
        UsageError: another optimizer, weight decay, a differentiable optimizer, or layers other than the recorded
            ones; in a step: the recording has no such step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        reference: ChannelNorms,
        *,
        example: Any = None,
        layers: ScaleInvariance | None = None,
        exact: bool = False,
    ) -> None:
        found = layers or find_scale_invariant(model, example)
        require_some(model, found)
        _require_same(reference, {each.path: each.vectors for each in found.layers}, found)
        if not isinstance(optimizer, _OPTIMIZERS):
            remedy = f"use {', '.join(each.__name__ for each in _OPTIMIZERS)}"
            raise UsageError(type(optimizer).__name__, "takes steps that depend on where a weight is", remedy)
        self._reference, self._step, self._exact = reference, 0, exact
        self._layers = layers_of(model, found)
        self._check_groups(optimizer)
        self._kept: list[_Kept] = []
        self._step_of = InnermostStep(optimizer, self._begin, self._end)

    def _check_groups(self, optimizer: Optimizer) -> None:
        weights = {id(trainable_weight(layer)): path for path, (layer, _) in self._layers.items()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                path = weights.get(id(parameter))
                if path is not None and group["weight_decay"] != 0:
                    cause = f"has weight decay {group['weight_decay']:g}, which this run is to do without"
                    raise UsageError(f"{path}.weight", cause, "put it into a group with weight_decay=0")
                if path is not None and group.get("differentiable"):
                    raise UsageError(
                        f"{path}.weight", "is in a differentiable optimizer", "leave out differentiable=True"
                    )

    def ratios(self) -> dict[str, Tensor]:
        """path -> r = ||v|| / ||w[WD]|| (vectors,) float64, of the step that comes next."""
        recorded = self._reference.at(self._step)
        ratios = {}
        for path, (layer, vectors) in self._layers.items():
            own = vector_norms(layer, vectors)
            other = torch.tensor(recorded[path], device=own.device)
            ratios[path] = torch.where((own > 0) & (other > 0), own / other, 1.0)
        return ratios

    def _begin(self, optimizer: Optimizer) -> None:
        """Give the optimizer weights of zero, so that what it makes of them is its step."""
        self._check_groups(optimizer)
        for path, ratio in self.ratios().items():
            layer, _ = self._layers[path]
            weight = trainable_weight(layer)
            if weight.grad is not None:
                self._kept.append(_Kept(path, weight, weight.detach().clone(), weight.grad, ratio))
                if _normalises(optimizer):
                    weight.grad = weight.grad * spread(ratio, layer).to(weight.dtype)
        for kept in self._kept:
            kept.weight.detach().zero_()

    def _end(self, optimizer: Optimizer, done: bool) -> None:
        """Step from where the weights were by a multiple of what came out; where the step failed, put them back."""
        for kept in self._kept:
            weight = kept.weight.detach()
            if done:
                factors = spread(self._factors(kept, optimizer), self._layers[kept.path][0])
                weight.copy_(kept.value + factors.to(weight.dtype) * weight)
            else:
                weight.copy_(kept.value)
            kept.weight.grad = kept.gradient
        self._kept = []
        if done and not was_skipped(optimizer):
            self._step += 1

    def _factors(self, kept: _Kept, optimizer: Optimizer) -> Tensor:
        """(vectors,): what the step is multiplied by."""
        first = 1.0 if _normalises(optimizer) else kept.ratio
        plain = first * kept.ratio
        if not self._exact or self._step + 1 >= self._reference.steps:
            return plain
        # f = first*r' with r' = ||v + f*p||/||w'||: a quadratic equation in f, p being the step.
        layer, vectors = self._layers[kept.path]
        step = kept.weight.detach()
        pairs = ((kept.value, kept.value), (kept.value, step), (step, step))
        own, along, length = (vector_products(one, other, layer, vectors) for one, other in pairs)
        now, after = (self._recorded(self._step + later, kept) for later in (0, 1))
        rest = (after / first).square() - length
        root = (along + (along.square() + own * rest).sqrt()) / rest
        return torch.where((own > 0) & (now > 0) & (rest > 0), root, plain)

    def _recorded(self, step: int, kept: _Kept) -> Tensor:
        return torch.tensor(self._reference.at(step)[kept.path], device=kept.ratio.device)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint of this run keeps: the step."""
        return {"step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the step of a checkpoint."""
        self._step = int(state["step"])

    def remove(self) -> None:
        """Let the optimizer step as it did before."""
        self._step_of.remove()


@dataclass(frozen=True)
class _Kept:
    """What a weight and its gradient were before a step, and r of its vectors."""

    path: str
    weight: nn.Parameter
    value: Tensor
    gradient: Tensor
    ratio: Tensor


def _normalises(optimizer: Optimizer) -> bool:
    """Whether its step divides by the size of the gradients."""
    return not isinstance(optimizer, SGD)


def _require_same(reference: ChannelNorms, own: dict[str, int], found: ScaleInvariance) -> None:
    for path, vectors in reference.layers.items():
        if path not in own:
            why = found.others.get(path, "the model has no such layer")
            raise UsageError(reference.place, f"records {path}, which is not scale invariant here ({why})", _SAME)
        if own[path] != vectors:
            raise UsageError(reference.place, f"records {vectors} vectors of {path}, which has {own[path]}", _SAME)
    missing = [path for path in own if path not in reference.layers]
    if missing:
        raise UsageError(reference.place, f"does not record {missing[0]}", _SAME)


_SAME = "record the same network"


def effective_step_size(
    model: nn.Module, lr: float | Optimizer, *, example: Any = None, layers: ScaleInvariance | None = None
) -> dict[str, Tensor]:
    """path -> eta/||w||^2 (vectors,) float64: how far a step turns each scale-invariant vector, for plots.

    Args:
        model: its layers are those that `find_scale_invariant` finds.
        lr: eta; an optimizer gives that of each weight's group, 0 to a weight that it does not have.
        example, layers: see `EffectiveLR`.

    Raises:
        UsageError: the model can't be traced.
    """
    found = layers or find_scale_invariant(model, example)
    sizes = {}
    for path, (layer, vectors) in layers_of(model, found).items():
        eta = lr if isinstance(lr, (int, float)) else _rate_of(lr, trainable_weight(layer))
        sizes[path] = eta / vector_norms(layer, vectors).square()
    return sizes


def _rate_of(optimizer: Optimizer, weight: Tensor) -> float:
    groups = (group for group in optimizer.param_groups if any(each is weight for each in group["params"]))
    return float(next((group["lr"] for group in groups), 0.0))
