"""Where the ranges of int8 come from: what norms know, a cache, other machines, or samples that run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from normexport.onnx_export import InputSpec
from normexport.precision.config import NORMS, EightBit
from normexport.precision.int8.calibrated import calibrate_on, from_cache
from normexport.precision.int8.calibration import Calibration, calibrate
from normexport.precision.int8.contradiction import Comparison
from normexport.precision.int8.from_norms import NormRanges, calibrate_by_norms
from normexport.precision.int8.held_out import Parted, watch
from normexport.precision.int8.sample_roles import is_cached
from normexport.precision.int8.storage import Storage
from normexport.precision.reduced import OnBatch


@dataclass(frozen=True)
class Ranges:
    """The ranges of a model's tensors.

    Attributes:
        by_norms: all that the norms know, where these gave them.
        notes: what to know of them, in words.
        read_from: the cache that they were read from, in words; "": none.
    """

    calibration: Calibration
    by_norms: NormRanges | None = None
    notes: tuple[str, ...] = ()
    read_from: str = ""


def ranges_for(
    model: ir.Model,
    config: EightBit,
    inputs: Sequence[InputSpec],
    parted: Parted,
    on_batch: OnBatch | None,
) -> Ranges:
    """The ranges by the method that the config names, from where it says."""
    storage = Storage.of(config)
    if config.method == NORMS:
        by_norms = calibrate_by_norms(model, inputs, symmetric=config.symmetric, storage=storage)
        return Ranges(by_norms.calibration, by_norms, by_norms.notes)
    if config.cache is not None and is_cached(config):
        found = from_cache(config.cache, model, config, inputs, parted)
        if found is not None:
            return Ranges(found, read_from=f"ranges read from {config.cache}")
    if config.on is not None:
        found, told = calibrate_on(config.on, model, config, inputs, parted, on_batch)
        return Ranges(found, notes=tuple(told))
    total, seen = parted.calibration.count, set[str]()
    counted = None if on_batch is None else lambda samples: on_batch(samples, total)
    stream = watch(parted.calibration, inputs, seen)
    compared = Comparison.of(model)
    found = calibrate(
        model,
        stream,
        config.method,
        symmetric=config.symmetric,
        storage=storage,
        on_batch=counted,
        on_tensor=compared.look,
        also=compared.known,
    )
    found = replace(found, seen=tuple(sorted(seen)))
    notes = list(compared.notes())
    if config.cache is not None:
        found.save(config.cache)
        notes.append(f"ranges written to {config.cache}")
    return Ranges(found, notes=tuple(notes))
