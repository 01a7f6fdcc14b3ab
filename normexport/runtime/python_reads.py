"""Does a model's Python look at the numbers it computes? A trace of it has taken one way and does not know the other.

PyTorch refuses to trace most of that (`if x.sum() > 0`), but a forward can catch the refusal, or ask whether it is
being traced and look only where it is not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from normexport.onnx_export.calls import Call
from normexport.onnx_export.state_in_graph import read_by_outputs

#: Methods that hand numbers of a tensor to Python.
_READS = frozenset(
    getattr(Tensor, name)
    for name in ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__complex__", "__index__", "__array__")
)
_ITEMS = ("aten.item.default", "aten._local_scalar_dense.default")


def count_reads(model: nn.Module, call: Call, inputs: list[Tensor]) -> int:
    """How often one run of `model` hands numbers that follow from its inputs to Python."""
    watch = _Watch(inputs)
    arguments, keywords = call.arguments(inputs)
    with torch.no_grad(), watch:
        model(*arguments, **keywords)
    return watch.reads


def count_traced_reads(program: ExportedProgram) -> int:
    """How many of them the outputs of a program follow from: it computes with whatever is read."""
    return sum(str(node.target) in _ITEMS for node in read_by_outputs(program))


class _Watch(TorchFunctionMode):
    """Follows what is computed from some tensors, and counts where Python reads of it."""

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()
        self.reads = 0
        self._followed: dict[int, Tensor] = {id(tensor): tensor for tensor in inputs}  # kept, so that ids stay theirs

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        follows = any(
            id(leaf) in self._followed for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)
        )
        if follows and func in _READS:
            self.reads += 1
        result = func(*args, **(kwargs or {}))
        if follows:
            self._followed |= {id(leaf): leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        return result
