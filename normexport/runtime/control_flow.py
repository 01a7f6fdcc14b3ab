"""Loops and branches of a torch model (`torch.cond`, `while_loop`, `scan`, `map`), run as plain Python.

PyTorch compiles them with Dynamo wherever they are called, which fails under a dispatch mode, and remembers it: the
next export in the process fails as well. And a mode sees the loop, but nothing of what is computed in it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode


class ThroughControlFlow(TorchDispatchMode):
    """A dispatch mode that is active in branches and bodies of loops too."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says no types there

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`func(*args, **kwargs)`; what a branch or a loop calls is dispatched to this mode again."""
        if isinstance(func, HigherOrderOperator):
            args = tuple(self._run_within(arg) if callable(arg) else arg for arg in args)
            kwargs = {name: self._run_within(arg) if callable(arg) else arg for name, arg in kwargs.items()}
        return func(*args, **kwargs)

    def _run_within(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return body(*args, **kwargs)

        return run


def nothing_compiled() -> AbstractContextManager[Any]:
    """While active, nothing is compiled: neither control flow nor what a model's code gives to `torch.compile`."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
