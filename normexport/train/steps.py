"""The steps of an optimizer: what to do right around one, and which are none, because a GradScaler skipped them."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from normexport.errors import UsageError


def was_skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer was called with gradients that overflowed, and so left everything as it was.

    Of other optimizers GradScaler does not call `step` then; a fused one finds this note on itself while it steps.
    """
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.item())


class InnermostStep:
    """Runs `begin(optimizer)` right before an optimizer's arithmetic and `end(optimizer, done)` right after it.

    All other hooks of its step, whenever they were registered, and the closure run outside of the two. Where a step
    fails between them, `end` is called with done False.

    Raises:
        UsageError: the optimizer has one already.
    """

    def __init__(
        self, optimizer: Optimizer, begin: Callable[[Optimizer], None], end: Callable[[Optimizer, bool], None]
    ) -> None:
        if getattr(optimizer, _MARK, False):
            raise UsageError(type(optimizer).__name__, "follows a recording already", "remove() that EffectiveLR first")
        self._optimizer, self._begin, self._end = optimizer, begin, end
        self._open, self._active = False, True
        self._before = optimizer.register_step_pre_hook(self._enter)
        self._after = optimizer.register_step_post_hook(lambda *_: self._leave(done=True))
        self._plain: Any = optimizer.step

        # With the notes that an LR scheduler leaves on a step, and the signature that GradScaler reads.
        @functools.wraps(getattr(self._plain, "__func__", self._plain))
        def step(_: Optimizer, *arguments: Any, **keywords: Any) -> Any:
            return self._take(arguments, keywords)

        setattr(optimizer, _MARK, True)
        # A bound method, as LR schedulers expect it.
        optimizer.step = types.MethodType(step, optimizer)  # type: ignore[method-assign]

    def _take(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if self._active:  # hooks run in the order of these mappings
            optimizer: Any = self._optimizer  # ordered dicts, which are declared as dicts
            optimizer._optimizer_step_pre_hooks.move_to_end(self._before.id)
            optimizer._optimizer_step_post_hooks.move_to_end(self._after.id, last=False)
        try:
            return self._plain(*arguments, **keywords)
        finally:
            self._leave(done=False)

    def _enter(self, _: Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The hook: begin now, or where there is a closure after it."""
        closure = keywords.get("closure") or (arguments[1] if len(arguments) > 1 else None)
        if closure is None:
            self._start()
            return None

        def evaluate() -> Any:
            loss = closure()
            self._start()
            return loss

        return arguments[:1], {**keywords, "closure": evaluate}

    @torch.no_grad()
    def _start(self) -> None:
        self._open = True
        self._begin(self._optimizer)

    @torch.no_grad()
    def _leave(self, done: bool) -> None:
        if self._open:
            self._open = False
            self._end(self._optimizer, done)

    def remove(self) -> None:
        """Run neither from now on."""
        self._active = False
        self._before.remove()
        self._after.remove()
        setattr(self._optimizer, _MARK, False)


_MARK = "_normexport_innermost"
