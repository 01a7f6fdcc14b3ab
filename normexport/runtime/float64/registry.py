"""Which function computes which operator, from which version of its domain on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

Value: TypeAlias = Any  # a numpy array; a list of them where ONNX says sequence; None for an optional without element
Kernel: TypeAlias = Callable[..., Any]
_K = TypeVar("_K", bound=Kernel)

_KERNELS: dict[tuple[str, str], dict[int, Kernel]] = {}


class Unsupported(Exception):
    """What a node asks for has no meaning here; the text is the reason."""


class Endless(Exception):
    """A node goes on for longer than any network needs; the text says how long it was given."""


@dataclass(frozen=True)
class Call:
    """A node as its kernel sees it.

    Attributes:
        operator: its name.
        version: of its operator's domain.
        attributes: those of the node, and the defaults of that version for the others; one without default is missing.
        outputs: for each output whether it is wanted.
        bodies: the subgraphs of the node, each a function from a list of inputs to the list of outputs.
        with_torch: whether heavy operators may use torch.
    """

    operator: str
    version: int
    attributes: Mapping[str, Any]
    outputs: tuple[bool, ...]
    bodies: Mapping[str, Callable[[list[Value]], list[Value]]]
    with_torch: bool = True

    def __getitem__(self, name: str) -> Any:
        """The attribute, None where it has neither value nor default."""
        return self.attributes.get(name)

    def wants(self, index: int) -> bool:
        """Whether the node has an output of that number."""
        return index < len(self.outputs) and self.outputs[index]

    @property
    def torch(self) -> Any:
        """The torch module, None where it is not installed, not wanted, or not to be used in this process."""
        return _torch() if self.with_torch else None


def operator(*names: str, since: int = 1, domain: str = "") -> Callable[[_K], _K]:
    """Register a function as what computes `names` from version `since` on, up to the next one registered.

    The function takes the `Call` and the inputs (None for those left out), and returns an array, or a tuple with one
    value per output.
    """

    def register(kernel: _K) -> _K:
        for name in names:
            versions = _KERNELS.setdefault((domain, name), {})
            assert since not in versions, (name, since)
            versions[since] = kernel
        return kernel

    return register


def kernel_of(domain: str, name: str, version: int) -> Kernel | None:
    """The function registered for an operator of that version."""
    versions = _KERNELS.get((domain, name), {})
    fitting = [since for since in versions if since <= version]
    return versions[max(fitting)] if fitting else None


_copied_with_torch = False


def _note_copy() -> None:
    global _copied_with_torch
    _copied_with_torch = "torch" in sys.modules


# In the copy of a process that torch has computed in, its threads are gone, and it would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_copy)


def _torch() -> Any:
    if _copied_with_torch:
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch


def as_tensor(torch: Any, array: Any) -> Any:
    """A torch tensor on the memory of `array`, or of a copy where torch can't take it as it is."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
