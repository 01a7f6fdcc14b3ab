"""Equation 4: a run without weight decay that takes the effective steps of a run with it.

Only the direction of a scale-invariant vector w matters, and a gradient step of size eta turns it by eta/||w||^2
times what it would turn a unit vector: the gradient is g(w) = g(w/||w||)/||w||, the step turns w by its length over
||w||. Weight decay shrinks w and so enlarges those turns. A run that does not decay its vector v takes the same with
`eta_hat = eta * ||v||^2 / ||w||^2` (Hoffer et al. 2018, "Norm matters", eq. 4).

**With momentum** a step has gradients of steps before, each taken at another ||v||. Let v = w/s for a number s per
layer. SGD with momentum mu, step size eta and decay lambda inside the gradient, m' = mu*m + g(w) + lambda*w and
w' = w - eta*m', is v' = v - eta/(s*s')*u', w' = s'*v', with u' = mu*u + g(v), s' = s - eta*b' and b' = mu*b + lambda*s,
b = 0 at first. (By induction m = u/s + b*v.) So s is a matter of eta, mu and lambda alone, and r = ||v||/||w|| is
1/s. The optimizer is given s*r*g(v), and its step is multiplied by r/s': on that path it is the step above, and beside
it a step whose *turn* does not depend on ||v||.

Multiplying the finished step by r^2, as equation 4 reads, is right on the path alone. A vector that has become longer
than w/s has old gradients in the buffer that are too large for it; the new, larger r^2 makes them larger still, and
the vector longer: in some hundred steps it is infinite. Without momentum the two are the same but for s'/s. Nesterov's
step is off by eta*lambda.

**Adam** divides by the size of the gradients, so that a step turns w by 1/||w|| of its length, not 1/||w||^2. AdamW
decays beside the step: w' = (1 - eta*lambda)*w - eta*a with a of the gradients g(w). It is given r*g(v) = g(w), and
its step is multiplied by r/(1 - eta*lambda). Adam's own decay, inside the gradient, is not followed: there it is r.
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
from normexport.train.vectors import spread, vector_norms

#: Their step does not depend on where the parameter is, so it can be taken from zero.
_OPTIMIZERS = (SGD, Adam, AdamW)


class EffectiveLR:
    """Makes every step of `optimizer` turn the scale-invariant weights as far as the recorded run turned its own.

    With r = ||v||/||w||, v this run's vector and w the recorded one, both before a step: the optimizer is given r times
    the gradient and its step is multiplied by r, both corrected by what the recorded weight decay took off w since.
    Hooks, closures, schedulers, parameter groups and GradScaler stay as they are, and so do parameters that are not
    scale invariant. A vector of norm zero in either run has no direction; it is stepped as ever. Gradients are smaller
    than the recorded run's by r, which matters where they are clipped. Weights grow as fast as decay would have shrunk
    them, eta*lambda/(1 - mu) of their length a step: float32 has no room for them after some 88 times the
    inverse of that.

    Args:
        optimizer: SGD, Adam or AdamW, without weight decay for these weights.
        model: the one that it trains.
        reference: the recorded norms of the run with weight decay, of `read_channel_norms`. Step t of this run, counted
            as the recorder counts, follows step t of that one.
        example: see `find_scale_invariant`.
        layers: what `find_scale_invariant` found, where that is asked with more arguments.

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
    ) -> None:
        found = layers or find_scale_invariant(model, example)
        require_some(model, found)
        _require_same(reference, {each.path: each.vectors for each in found.layers}, found)
        if not isinstance(optimizer, _OPTIMIZERS):
            remedy = f"use {', '.join(each.__name__ for each in _OPTIMIZERS)}"
            raise UsageError(type(optimizer).__name__, "takes steps that depend on where a weight is", remedy)
        self._reference, self._step = reference, 0
        self._layers = layers_of(model, found)
        self._shrunk = {path: _Shrunk() for path in self._layers}
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
        groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        kept = []
        for path, ratio in self.ratios().items():
            weight = trainable_weight(self._layers[path][0])
            group = groups.get(id(weight))
            if weight.grad is not None and group is not None:
                change = self._shrunk[path].change(optimizer, group, self._reference.decay.get(path, 0.0))
                kept.append(_Kept(path, weight, weight.detach().clone(), weight.grad, ratio, change))
        self._kept = kept
        for each in kept:
            factors = spread(each.change.of_gradient * each.ratio, self._layers[each.path][0])
            each.weight.grad = each.gradient * factors.to(each.weight.dtype)
            each.weight.detach().zero_()

    def _end(self, optimizer: Optimizer, done: bool) -> None:
        """Step from where the weights were by a multiple of what came out; where the step failed, put them back."""
        counts = done and not was_skipped(optimizer)
        for kept in self._kept:
            weight = kept.weight.detach()
            if done:
                factors = spread(kept.change.of_step * kept.ratio, self._layers[kept.path][0])
                weight.copy_(kept.value + factors.to(weight.dtype) * weight)
            else:
                weight.copy_(kept.value)
            if counts:
                self._shrunk[kept.path] = kept.change.after
            kept.weight.grad = kept.gradient
        self._kept = []
        if counts:
            self._step += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of this run keeps: the step, and by how much decay has shrunk the recorded weights."""
        shrunk = {path: [each.scale, each.pull] for path, each in self._shrunk.items() if each.scale != 1}
        return {"step": self._step, "shrunk": shrunk}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the step of a checkpoint."""
        self._step = int(state["step"])
        self._shrunk = {path: _Shrunk(*state["shrunk"].get(path, ())) for path in self._layers}

    def remove(self) -> None:
        """Let the optimizer step as it did before."""
        self._step_of.remove()


@dataclass(frozen=True)
class _Change:
    """What a gradient and the finished step are multiplied by, each beside r, and the decay after that step."""

    of_gradient: float
    of_step: float
    after: _Shrunk


@dataclass(frozen=True)
class _Shrunk:
    """What decay alone has made of the recorded weights of a layer: s and b of the module's text."""

    scale: float = 1.0
    pull: float = 0.0

    def change(self, optimizer: Optimizer, group: dict[str, Any], decay: float) -> _Change:
        """Of the step that comes next, with the step size and momentum of the weight's group."""
        if not decay or (not isinstance(optimizer, SGD) and not group.get("decoupled_weight_decay")):
            return _Change(self.scale, 1 / self.scale, self)
        eta = float(group["lr"])
        if not isinstance(optimizer, SGD):
            return _Change(1.0, 1 / (1 - eta * decay), self)
        momentum, own = group["momentum"], decay * self.scale
        # PyTorch's buffer starts as the first gradient, undampened; without momentum there is none.
        dampening = group["dampening"] if momentum and self.pull else 0.0
        pull = momentum * self.pull + (1 - dampening) * own
        taken = own + momentum * pull if group["nesterov"] else pull
        after = _Shrunk(self.scale - eta * taken, pull)
        return _Change(self.scale, 1 / after.scale, after)


@dataclass(frozen=True)
class _Kept:
    """What a weight and its gradient were before a step, r of its vectors, and what its step is changed by."""

    path: str
    weight: nn.Parameter
    value: Tensor
    gradient: Tensor
    ratio: Tensor
    change: _Change


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
