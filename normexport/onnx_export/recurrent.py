"""LSTMs over a length that stays open: torch traces them step by step, and so fixes how many steps.

GRU and RNN are left to torch: its ONNX exporter writes them step by step, whatever the trace says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._C import DispatchKey
from torch._subclasses.fake_tensor import FakeTensor

_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)


@contextmanager
def lstms_whole() -> Iterator[None]:
    """An LSTM in a trace tells the shapes of its results and nothing else; with numbers it computes.

    torch's own rule runs the layer's steps on tensors without numbers, whose count must then be one number. In the
    program the layer is one operator either way.
    """
    operator: Any = torch.ops.aten.lstm.input
    before = dict(operator.py_kernels)
    own = next((before[key] for key in _KEYS if key in before), operator)
    try:
        operator.py_kernels.update(dict.fromkeys(_KEYS, _shapes_or(own)))
        operator._dispatch_cache.clear()
        yield
    finally:
        operator.py_kernels.clear()
        operator.py_kernels.update(before)
        operator._dispatch_cache.clear()


def _shapes_or(own: Callable[..., Any]) -> Callable[..., Any]:
    """The results' shapes for a traced tensor; torch's `own` kernel for one with numbers, such as a constant."""

    def kernel(input: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return (_shapes if isinstance(input, FakeTensor) else own)(input, *rest, **named)

    return kernel


def _shapes(
    input: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """The output, as the input but for its features, and the two states."""
    features = hx[0].shape[-1] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:-1], features)), *map(torch.empty_like, hx)
