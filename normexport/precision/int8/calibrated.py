"""Calibration of `reduce_precision` by a file, or in parts that any process computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.io.json_files import BadJson, read_json, record
from normexport.onnx_export import InputSpec
from normexport.precision.config import EightBit
from normexport.precision.int8.calibration import Calibration, read_calibration
from normexport.precision.int8.contradiction import Comparison
from normexport.precision.int8.gather import gather
from normexport.precision.int8.held_out import Parted, digests_of
from normexport.precision.int8.state import KIND
from normexport.precision.int8.state_files import MOST_BYTES, read_state, require_state_of
from normexport.precision.int8.storage import Storage
from normexport.precision.numbered import Numbered, arrays_by_number, numbered, samples_by_number
from normexport.precision.reduced import OnBatch
from normexport.precision.samples import digest_of
from normexport.runtime import OnnxRuntime
from normexport.workers import Where

_COMPARED = 4  # batches that are held against what the first norms know of their inputs


def from_cache(
    path: Path, model: ir.Model, config: EightBit, inputs: Sequence[InputSpec], parted: Parted
) -> Calibration | None:
    """The ranges of a file of ranges or of a calibration state; None where that is to be gone on with.

    Raises:
        UsageError: neither of them, of another model, or made from other data than is given.
    """
    other = f"was made from other data than {config.calibration}", "remove it, and calibrate again"
    if not is_state(path):
        kind = config.method, config.symmetric, config.dtype
        found = read_calibration(path, model, kind[0], symmetric=kind[1], dtype=kind[2])
        if config.calibration is not None and digest_of(parted.calibration) != found.data:
            raise UsageError(str(path), *other)
        return found
    state = read_state(path)
    require_state_of(path, state, model)
    if (
        config.on is not None
        and config.calibration is not None
        and any(each.count < each.batches for each in state.seen.values())
    ):
        return None
    known = set(state.samples)
    if config.calibration is not None and any(
        digest not in known for feeds in parted.calibration() for digest in digests_of(feeds, inputs)
    ):
        raise UsageError(str(path), *other)
    return state.calibration(config.method, symmetric=config.symmetric, storage=Storage.of(config), place=str(path))


def calibrate_on(
    where: Where,
    model: ir.Model,
    config: EightBit,
    inputs: Sequence[InputSpec],
    parted: Parted,
    on_batch: OnBatch | None,
) -> tuple[Calibration, list[str]]:
    """The ranges of samples that are seen in parts, and notes; where a cache is named, it gets the state.

    Raises:
        UsageError: see `gather`.
    """
    data = _data(config, inputs, parted)
    begun = None
    if config.cache is not None and config.cache.exists():
        begun = read_state(config.cache)
    total = len(data.numbers)
    state = gather(
        model,
        data,
        where,
        begun=begun,
        checkpoint=config.cache,
        on_batch=None if on_batch is None else lambda seen: on_batch(seen, total),
    )
    found = state.calibration(config.method, symmetric=config.symmetric, storage=Storage.of(config))
    notes = contradictions(model, data)
    if config.cache is not None:
        state.save(config.cache)
        notes.append(f"calibration state written to {config.cache}")
    return found, notes


def contradictions(model: ir.Model, data: Numbered) -> list[str]:
    """What the first batches say against the network's first norms (`contradiction`)."""
    compared, runtime = Comparison.of(model), OnnxRuntime(model, threads=1)
    inner = sorted(set(compared.known) - set(runtime.input_names))
    skipped: dict[int, str] = {}
    for batch in range(min(_COMPARED, data.batches) if compared.known else 0):
        for feeds in data.read(batch, skipped):
            for name, array in feeds.items():
                compared.look(name, array)
            if inner:
                runtime.run(feeds, inner, compared.look)
    return compared.notes()


def is_state(path: Path) -> bool:
    """Whether a file is a calibration state; one that is nothing is told by whoever reads it.

    Raises:
        UsageError: it can't be read.
    """
    try:
        fields = record(read_json(path, MOST_BYTES), "")
        return fields.has("kind") and fields.get("kind", lambda value, _: value) == KIND
    except BadJson:
        return False


def _data(config: EightBit, inputs: Sequence[InputSpec], parted: Parted) -> Numbered:
    """The samples that calibrate: those given for it, or a part of those that judge; without those kept from it."""
    given = parted.whole if config.calibration is None else parted.given
    if isinstance(given, Numbered):
        data = replace(given, batch=config.batch)
    elif given is not None:
        data = numbered(arrays_by_number(given, inputs), config.batch)
    else:
        assert config.calibration is not None
        data = numbered(samples_by_number(config.calibration, inputs, config.preprocess), config.batch)
    kept = set() if parted.reason or parted.kept is None else set(parted.kept)
    return data.at(place for place in range(len(data.numbers)) if place not in kept) if kept else data
