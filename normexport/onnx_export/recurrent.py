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
    operators: dict[Any, Callable[..., Any]] = {
        torch.ops.aten.lstm.input: _of_lstm,
        torch.ops.aten.gru.input: _of_gru,
        torch.ops.aten.rnn_tanh.input: _of_gru,
        torch.ops.aten.rnn_relu.input: _of_gru,
    }
    before = {operator: dict(operator.py_kernels) for operator in operators}
    try:
        for operator, shapes in operators.items():
            own = next((operator.py_kernels[key] for key in _KEYS if key in operator.py_kernels), operator)
            for key in _KEYS:
                operator.py_kernels[key] = _shapes_or(own, shapes)
            operator._dispatch_cache.clear()
        yield
    finally:
        for operator, kernels in before.items():
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def _shapes_or(own: Callable[..., Any], shapes: Callable[..., Any]) -> Callable[..., Any]:
    """`shapes` for a traced tensor; torch's `own` kernel for one with numbers, such as a constant."""

    def kernel(input: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return (shapes if isinstance(input, FakeTensor) else own)(input, *rest, **named)

    return kernel


def _of_lstm(
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
    return _output(input, hx[0], bidirectional), torch.empty_like(hx[0]), torch.empty_like(hx[1])


def _of_gru(
    input: torch.Tensor,
    hx: torch.Tensor,
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    return _output(input, hx, bidirectional), torch.empty_like(hx)


def _output(input: torch.Tensor, state: torch.Tensor, bidirectional: bool) -> torch.Tensor:
    """(batch, steps, features) or (steps, batch, features), as the input: only the features differ."""
    return input.new_empty((*input.shape[:-1], state.shape[-1] * (2 if bidirectional else 1)))
