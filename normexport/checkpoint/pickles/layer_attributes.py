"""What attributes of torch.nn and normexport.nn layers may be: types and ranges, by name.

A name means one thing in all of them. PyTorch's kernels divide by strides, groups and sizes and allocate by paddings
and output sizes: zero ends the process by a signal, and a billion takes the memory. Within these ranges a layer can
still contradict its input, which its forward then says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.nn import functional

Test = Callable[[Any], bool]

#: The largest window (kernel, stride, padding, output size), and the largest number of channels or rows.
WIDEST, MOST_CHANNELS = 1 << 14, (1 << 31) - 1
_MOST_AXES = 8


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return (type(value) is int or (type(value) is float and not math.isnan(value))) and abs(value) <= 1e30


def _maybe_infinite(value: Any) -> bool:
    return (type(value) is float and math.isinf(value)) or _number(value)


def _is_between(least: int, most: int) -> Test:
    return lambda value: type(value) is int and least <= value <= most


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _one_or_several(test: Test) -> Test:
    """One such value, or a tuple or list of one per axis."""
    return lambda value: test(value) or _several(test)(value)


def _several(test: Test) -> Test:
    return lambda value: isinstance(value, (tuple, list)) and 0 < len(value) <= _MOST_AXES and all(map(test, value))


def _word(*words: str) -> Test:
    return lambda value: isinstance(value, str) and value in words


_COUNT = _is_between(1, MOST_CHANNELS)
_WINDOW = _is_between(1, WIDEST)
_MARGIN = _is_between(-WIDEST, WIDEST)
_AXIS = _is_between(-_MOST_AXES, _MOST_AXES)
_INDEX = _is_between(-MOST_CHANNELS, MOST_CHANNELS)


def _scale(value: Any) -> bool:
    return _number(value) and 0 < value <= 256


def _small(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1e6


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _padding(value: Any) -> bool:
    return _one_or_several(_MARGIN)(value) or _word("same", "valid")(value)


def _is_unflattened_size(value: Any) -> bool:
    """Sizes, one of which may be -1, or pairs of a name and a size."""

    def pair(each: Any) -> bool:
        return isinstance(each, (tuple, list)) and len(each) == 2 and _COUNT(each[1])

    return _several(_is_between(-1, MOST_CHANNELS))(value) or _several(pair)(value)


def _test_each(test: Test, *names: str) -> dict[str, Test]:
    return dict.fromkeys(names, test)


#: Name -> test of its value.
ATTRIBUTES: dict[str, Test] = {
    **_test_each(
        _COUNT, "in_channels", "out_channels", "num_features", "num_channels",
        "num_groups", "groups", "num_embeddings", "embedding_dim", "input_size", "hidden_size", "num_layers",
        "embed_dim", "num_heads", "head_dim", "kdim", "vdim", "in1_features", "in2_features", "num_parameters",
        "d_model", "nhead", "n_classes", "head_size", "shortlist_size", "n_clusters", "num_classes",
    ),
    **_test_each(
        _flag, "training", "ceil_mode", "return_indices", "count_include_pad", "affine", "track_running_stats",
        "inplace", "elementwise_affine", "transposed", "batch_first", "bidirectional", "sparse", "scale_grad_by_freq",
        "include_last_offset", "bias", "add_zero_attn", "norm_first", "enable_nested_tensor", "use_nested_tensor",
        "mask_check", "_qkv_same_embed_dim", "keepdim", "full", "log_input", "log_target", "swap", "zero_infinity",
        "head_bias",
    ),
    **_test_each(
        _number, "alpha", "threshold", "value", "negative_slope", "lambd", "init", "label_smoothing", "margin", "delta",
        "div_value", "beta",
    ),
    **_test_each(_maybe_infinite, "min_val", "max_val", "lower", "upper"),
    **_test_each(_or_none(_number), "momentum", "max_norm"),
    **_test_each(_or_none(_flag), "align_corners", "recompute_scale_factor", "_is_full_backward_hook"),
    **_test_each(_or_none(_INDEX), "padding_idx", "ignore_index", "blank"),
    **_test_each(_one_or_several(_WINDOW), "kernel_size", "dilation"),
    **_test_each(_or_none(_one_or_several(_WINDOW)), "stride", "size"),
    **_test_each(_WINDOW, "chunks", "upscale_factor", "downscale_factor"),
    "padding": _padding,
    "_reversed_padding_repeated_twice": lambda value: _several(_MARGIN)(value),
    "output_padding": _one_or_several(_is_between(0, WIDEST)),
    "output_size": _or_none(_one_or_several(_or_none(_is_between(0, WIDEST)))),
    "output_ratio": _or_none(_one_or_several(_share)),
    "scale_factor": _or_none(_one_or_several(_scale)),
    "divisor_override": _or_none(lambda value: _INDEX(value) and value != 0),
    "eps": _or_none(_small),
    "correction": _small,
    "dropout": _share,
    "p": _maybe_infinite,
    "norm": _or_none(_maybe_infinite),
    "norm_type": _maybe_infinite,
    "axis": _AXIS,
    "dim": _or_none(_AXIS),
    "start_dim": _AXIS,
    "end_dim": _AXIS,
    "in_features": _is_between(0, MOST_CHANNELS),
    "out_features": lambda value: (isinstance(value, tuple) and not value) or _is_between(0, MOST_CHANNELS)(value),
    "k": lambda value: _number(value) and value > 0,
    "proj_size": _is_between(0, MOST_CHANNELS),
    "_size": _is_between(0, MOST_CHANNELS),
    "activation_relu_or_gelu": _is_between(0, 2),
    "cutoffs": _several(_COUNT),
    "normalized_shape": _several(_COUNT),
    "unflattened_size": _is_unflattened_size,
    "activation": lambda value: value is functional.relu or value is functional.gelu,
    "approximate": _word("none", "tanh"),
    "nonlinearity": _word("tanh", "relu"),
    "padding_mode": _word("zeros", "reflect", "replicate", "circular"),
    "reduction": _word("none", "mean", "sum", "batchmean", "elementwise_mean"),
    "mode": _word(
        "nearest", "linear", "bilinear", "bicubic", "trilinear", "area", "nearest-exact", "lanczos",
        "sum", "mean", "max", "LSTM", "GRU", "RNN_TANH", "RNN_RELU",
    ),
    "name": lambda value: isinstance(value, str) and value.isidentifier(),
    "kind": lambda value: isinstance(value, str) and value.isidentifier(),
}  # fmt: skip


def describe_value(value: Any) -> str:
    """A value of an attribute in a message."""
    text = repr(value) if type(value) in (int, float, str, bool, type(None), tuple) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
