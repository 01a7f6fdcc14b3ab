"""Walk a loaded model: replace layers that quantise while they compute, and the observers that are left."""

from __future__ import annotations

import torch

from normexport.checkpoint.fake_quantisation import observers, quantizer_of, replacement
from normexport.checkpoint.replace_norms import Settled, has_hooks

_LEFT_OUT = "fake quantisation is left out"
_OWN_FORWARD = "quantises in a way of its own; its own forward is exported"


def _network_dtype(settled: Settled) -> torch.dtype:
    return next((each.dtype for each in settled.model.parameters() if each.is_floating_point()), torch.float32)


def replace_quantised(settled: Settled) -> None:
    """Replace quantised layers of `settled.model`, then single observers; what computes otherwise keeps its forward.

    With `settled.unquantised` the layers' weights are those that are stored, and observers hand on what they get.
    """
    for path, module in list(settled.model.named_modules()):
        new = None if has_hooks(module) else replacement(module, not settled.unquantised)
        if new is not None:
            settled.put(module, new.eval())
            if settled.unquantised:
                settled.doubt(path, _LEFT_OUT)
    for path, observer in list(observers(settled.model)):
        quantizer = (
            None if has_hooks(observer) else quantizer_of(observer, _network_dtype(settled), settled.unquantised)
        )
        if quantizer is None:
            settled.remark(path, _OWN_FORWARD)
            continue
        settled.put(observer, quantizer.eval())
        if settled.unquantised:
            settled.doubt(path, _LEFT_OUT)
