"""If, Loop and Scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Endless, Unsupported, operator

#: Networks go round some thousand times, for steps in time or words; what goes on goes on for ever.
MOST_TRIPS = 100_000


@operator("If")
def if_else(call: Call, condition: Any) -> Any:
    if condition.size != 1:
        raise Unsupported("the condition is not one value")
    return tuple(call.bodies["then_branch" if bool(condition.reshape(())) else "else_branch"]([]))


@operator("Loop")
def loop(call: Call, most: Any, condition: Any, *carried: Any) -> Any:
    """The body until its condition is false, at most `most` times; outputs beyond the carried are stacked.

    Raises:
        Endless: after `MOST_TRIPS`.
    """
    state, stacks = list(carried), [list[Any]() for _ in call.outputs[len(carried) :]]
    limit = None if most is None else int(most.reshape(()))
    going, i = condition is None or bool(condition.reshape(())), 0
    while going and (limit is None or i < limit):
        if i == MOST_TRIPS:
            raise Endless(f"has not ended after {i:,} trips")
        results = call.bodies["body"]([np.array(i, dtype=np.int64), np.array(True), *state])
        going = bool(results[0].reshape(()))
        state = results[1 : 1 + len(state)]
        for stack, value in zip(stacks, results[1 + len(state) :], strict=False):
            stack.append(value)
        i += 1
    return (*state, *(np.stack(stack) if stack else np.zeros(0) for stack in stacks))


@operator("Scan")
def scan_batched(call: Call, lengths: Any, *inputs: Any) -> Any:
    """Opset 8: every input has a batch axis first, and the body runs for each sample."""
    scanned = call["num_scan_inputs"]
    states, sequences = inputs[: len(inputs) - scanned], inputs[len(inputs) - scanned :]
    directions, samples = call["directions"] or (0,) * scanned, []
    for n in range(len(inputs[0])):
        length = sequences[0].shape[1] if lengths is None else int(lengths[n])
        cut = [s[n][:length][::-1] if d else s[n][:length] for s, d in zip(sequences, directions, strict=True)]
        state, stacks = _scan(call, [s[n] for s in states], cut, length)
        longest = sequences[0].shape[1]
        filled = [np.concatenate([y, np.zeros((longest - len(y), *y.shape[1:]), y.dtype)]) for y in stacks]
        samples.append([*state, *filled])
    return tuple(np.stack(each) for each in zip(*samples, strict=True))


@operator("Scan", since=9)
def scan(call: Call, *inputs: Any) -> Any:
    """The body for each slice of the scanned inputs; its outputs beyond the states are stacked."""
    scanned = call["num_scan_inputs"]
    states, sequences = list(inputs[: len(inputs) - scanned]), inputs[len(inputs) - scanned :]
    axes, directions = call["scan_input_axes"] or (0,) * scanned, call["scan_input_directions"] or (0,) * scanned
    moved = [np.moveaxis(s, axis, 0) for s, axis in zip(sequences, axes, strict=True)]
    if len({len(s) for s in moved}) != 1:
        raise Unsupported("the scanned inputs have different lengths")
    moved = [s[::-1] if backwards else s for s, backwards in zip(moved, directions, strict=True)]
    state, stacks = _scan(call, states, moved, len(moved[0]))
    out_axes, out_directions = call["scan_output_axes"], call["scan_output_directions"]
    placed = []
    for i, y in enumerate(stacks):
        y = y[::-1] if out_directions and out_directions[i] else y
        placed.append(np.moveaxis(y, 0, out_axes[i] if out_axes else 0))
    return (*state, *placed)


def _scan(call: Call, state: list[Any], sequences: list[Any], length: int) -> tuple[list[Any], list[Any]]:
    stacks = [list[Any]() for _ in call.outputs[len(state) :]]
    for t in range(length):
        results = call.bodies["body"]([*state, *(np.asarray(s[t]) for s in sequences)])
        state = results[: len(state)]
        for stack, value in zip(stacks, results[len(state) :], strict=True):
            stack.append(value)
    return state, [np.stack(stack) if stack else np.zeros(0) for stack in stacks]
