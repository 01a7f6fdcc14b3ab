"""Recurrent layers over a length that stays open: torch traces them step by step, and so fixes how many steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._C import DispatchKey
from torch._subclasses.fake_tensor import FakeTensor

_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)


@contextmanager
def recurrent_layers_whole() -> Iterator[None]:
    """LSTM, GRU and RNN in a trace tell the shapes of their results and nothing else; with numbers they compute.

    torch's own rule runs the layer's steps on tensors without numbers, whose count must then be one number. In the
    program the layer is one operator either way.
    """
    aten = torch.ops.aten
    operators: list[Any] = [aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input]
    before = {operator: dict(operator.py_kernels) for operator in operators}
    try:
        for operator in operators:
            own = next((operator.py_kernels[key] for key in _KEYS if key in operator.py_kernels), operator)
            for key in _KEYS:
                operator.py_kernels[key] = _shapes_or(own)
            operator._dispatch_cache.clear()
        yield
    finally:
        for operator, kernels in before.items():
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def _shapes_or(own: Callable[..., Any]) -> Callable[..., Any]:
    """The results' shapes for a traced tensor; torch's `own` kernel for one with numbers, such as a constant."""

    def kernel(input: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return (_shapes if isinstance(input, FakeTensor) else own)(input, *rest, **named)

    return kernel


def _shapes(
    input: torch.Tensor,
    hx: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """The output, as the input but for its features, and the states: two of an LSTM, one of the others."""
    states = [hx] if isinstance(hx, torch.Tensor) else list(hx)
    features = states[0].shape[-1] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:-1], features)), *map(torch.empty_like, states)
