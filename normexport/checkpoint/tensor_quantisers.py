"""State_dicts of NVIDIA's TensorQuantizer (pytorch-quantization, ModelOpt): the largest number of each tensor.

    conv1._input_quantizer._amax   conv1._weight_quantizer._amax   (C, 1, 1, 1)   conv1.output_quantizer._amax
    y = clamp(round(x/s), -127, 127)*s,   s = amax/127

How many bits, and whether zero is the least integer, is said by the code that made them and not by the file.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from normexport.checkpoint.replace_norms import Settled
from normexport.checkpoint.state import State
from normexport.errors import CheckpointError
from normexport.nn.fake_quantizer import FakeQuantizer, QuantizedWeight

_KEY = re.compile(r"(?P<layer>.+)\._?(?P<place>input|weight|output)_quantizer\._amax")
_LARGEST = 127
_ASSUMED = "its file says the largest numbers alone; read as integers -127..127, as TensorQuantizer has them by default"
_REMEDY = "calibrate it again, or leave its fake quantisation out with --unquantised"

#: Layer -> "input", "weight" or "output" -> the largest numbers.
Largest = Mapping[str, Mapping[str, Tensor]]


def take_largest(state: State, own_keys: Collection[str]) -> tuple[State, Largest]:
    """The state without such keys that the model does not have, and what they say."""
    found: dict[str, dict[str, Tensor]] = {}
    for key in state.tensors.keys() - set(own_keys):
        match = _KEY.fullmatch(key)
        if match is not None:
            found.setdefault(match["layer"], {})[match["place"]] = state.tensors[key]
    taken = {key for key in state.tensors if key not in own_keys and _KEY.fullmatch(key)}
    return (state.without(taken), found) if taken else (state, {})


def put_quantisers(settled: Settled, largest: Largest, place: str) -> None:
    """Put quantisers of these numbers around the layers of a model that holds its weights.

    Raises:
        CheckpointError: a layer is not in the model, or a number is not positive.
    """
    modules = dict(settled.model.named_modules())
    for path, numbers in sorted(largest.items()):
        layer = modules.get(path)
        if layer is None:
            raise CheckpointError(place, f"has ranges of {path}, which the model lacks", _REMEDY)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if "input" in numbers:
            parts["quantize_input"] = _quantizer(numbers["input"], f"{path}.input_quantizer")
        held = layer
        if "weight" in numbers:
            if not isinstance(layer._parameters.get("weight"), Tensor):
                raise CheckpointError(place, f"has the range of a weight of {path}, which has none", _REMEDY)
            held = QuantizedWeight(layer, _quantizer(numbers["weight"], f"{path}.weight_quantizer"))
        parts["layer"] = held
        if "output" in numbers:
            parts["quantize_output"] = _quantizer(numbers["output"], f"{path}.output_quantizer")
        settled.put(layer, nn.Sequential(parts).eval())
        settled.doubt(path, _ASSUMED)


def _quantizer(largest: Tensor, place: str) -> FakeQuantizer:
    if not bool(torch.isfinite(largest).all()) or not bool((largest > 0).all()):
        raise CheckpointError(place, "has a largest number that is not positive", _REMEDY)
    wide = [axis for axis, size in enumerate(largest.shape) if size > 1]
    if len(wide) > 1:
        raise CheckpointError(place, f"has ranges over {len(wide)} axes at once", _REMEDY)
    axis = wide[0] if wide else None
    scale = largest.float().reshape(-1) / _LARGEST
    return FakeQuantizer(scale, torch.zeros_like(scale), -_LARGEST, _LARGEST, axis)
