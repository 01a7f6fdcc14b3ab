"""Keys that quantisation-aware training of torch.ao adds to a state_dict: ranges and switches, beside float weights."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import nn

from normexport.checkpoint.state import State
from normexport.errors import CheckpointError
from normexport.text import printable, shortened

#: A fake quantiser by the attribute that torch.ao keeps it in, and what it and its observer store.
_KEY = re.compile(
    r"(?P<owner>(?:.*\.)?(?:weight_fake_quant|activation_post_process(?:_\d+)?))"
    r"\.(?:activation_post_process\.)?"
    r"(?:fake_quant_enabled|observer_enabled|scale|zero_point|eps|min_val|max_val|histogram|min_vals|max_vals)"
)
_PACKAGES = ("torch.ao.quantization.", "torchao.quantization.")


def ranges_of(keys: Collection[str]) -> dict[str, str]:
    """Key -> path of the fake quantiser that it belongs to."""
    return {key: found["owner"] for key in keys if (found := _KEY.fullmatch(key)) is not None}


def without_ranges(state: State, own_keys: Collection[str], unquantised: bool, place: str) -> tuple[State, list[str]]:
    """`state` without the keys of fake quantisers that the model does not have, and the paths of these.

    Raises:
        CheckpointError: there are some, and leaving them out was not asked for.
    """
    found = ranges_of(state.tensors.keys() - set(own_keys))
    paths = list(dict.fromkeys(found[key] for key in state.tensors if key in found))
    if paths and not unquantised:
        named = shortened([printable(path, 80) for path in paths])
        cause = f"was trained with fake quantisation of torch.ao ({named}), which the model does not have"
        remedy = "let --model make it prepared (prepare_qat), or leave its ranges out with --unquantised"
        raise CheckpointError(place, cause, remedy)
    return state.without(found.keys()), paths


def refuse_fake_quantisers(model: nn.Module, place: str) -> None:
    """Refuse a model that torch.ao prepared for quantisation-aware training, where that is to be left out.

    Raises:
        CheckpointError: names one of its fake quantisers.
    """
    for path, module in model.named_modules():
        if type(module).__module__.startswith(_PACKAGES) and hasattr(module, "fake_quant_enabled"):
            cause = f"the model has fake quantisers of torch.ao ({printable(path, 80)}), which are not left out of it"
            remedy = "give the float model with --unquantised, or leave that out and keep them"
            raise CheckpointError(place, cause, remedy)
