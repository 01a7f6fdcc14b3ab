"""A capsule -> one .npz file, for numpy alone: plain arrays, and `capsule`, a JSON text that says what each one is.

docs/capsule.md describes the fields.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from normexport.capsule.content import FORMAT, Capsule, Reference, Rule, Run, Signal
from normexport.errors import UsageError
from normexport.io.atomic import replacing
from normexport.io.json_files import MOST_BYTES
from normexport.logs import logger
from normexport.proof import Deviation
from normexport.runtime import Array

#: The name of the JSON text among the arrays.
TEXT = "capsule"

_LOG = logger(__name__)


def write(capsule: Capsule, path: str | Path) -> None:
    """Write a capsule, compressed, whole or not at all. The same capsule gives the same bytes.

    Raises:
        UsageError: the file can't be written; a name has characters that do not print; there are too many names.
    """
    arrays: dict[str, Array] = {}
    document = _document(capsule, arrays)
    _require_printable(document)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    if len(text) > MOST_BYTES:
        cause = f"describes its arrays in {len(text) >> 20} MiB, and {MOST_BYTES >> 20} are the most"
        raise UsageError(str(path), cause, "make it of a model with fewer modules")
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{TEXT: np.frombuffer(text, np.uint8)}, **arrays)  # type: ignore[arg-type]  # all names are ours
    _LOG.info("%s: capsule written, runs: %d", path, len(capsule.runs))


def _document(capsule: Capsule, arrays: dict[str, Array]) -> dict[str, Any]:
    """The JSON value; the arrays that it names go into `arrays`."""
    return {
        "format": FORMAT,
        "precision": capsule.precision,
        "reference": capsule.reference,
        "baseline": capsule.baseline,
        "inputs": [{"name": name, "dtype": dtype} for name, dtype in capsule.inputs.items()],
        "runs": [_run(run, index, arrays) for index, run in enumerate(capsule.runs)],
        "boundaries": _boundaries(capsule, arrays),
        "unproven": list(capsule.unproven),
        "channels": _channels(capsule, arrays),
        "source": None if capsule.source is None else asdict(capsule.source),
        "model": [asdict(file) for file in capsule.model],
        "versions": dict(capsule.versions),
        "notes": list(capsule.notes),
    }


def _run(run: Run, number: int, arrays: dict[str, Array]) -> dict[str, Any]:
    inputs, outputs = [], []
    for index, (name, array) in enumerate(run.feeds.items()):
        inputs.append({"name": name, "values": _store(arrays, f"input_{number}_{index}", array)})
    for index, output in enumerate(run.outputs):
        values = _store(arrays, f"output_{number}_{index}", output.values)
        outputs.append({"name": output.name, "dtype": output.dtype, "values": values, **_limit(output)})
    return {"name": run.name, "size": run.size, "inputs": inputs, "outputs": outputs}


def _boundaries(capsule: Capsule, arrays: dict[str, Array]) -> dict[str, Any]:
    """Modules that hand one tensor on share its arrays."""
    members: dict[str, tuple[str, str | None]] = {}
    tensors = []
    for boundary in capsule.boundaries:
        if boundary.name not in members:
            number = len(members)
            values = _store(arrays, f"boundary_{number}", boundary.values)
            at = None if boundary.at is None else _store(arrays, f"places_{number}", boundary.at)
            members[boundary.name] = values, at
        values, at = members[boundary.name]
        known = {"name": boundary.name, "path": boundary.path, "type": boundary.type}
        tensors.append({**known, "shape": list(boundary.shape), "values": values, "places": at, **_limit(boundary)})
    return {"run": capsule.boundary_run, "tensors": tensors}


def _channels(capsule: Capsule, arrays: dict[str, Array]) -> list[dict[str, Any]]:
    listed = [(name, axis, shares) for name, axes in capsule.channels.items() for axis, shares in axes.items()]
    return [
        {"output": name, "axis": axis, "values": _store(arrays, f"channels_{number}", shares)}
        for number, (name, axis, shares) in enumerate(listed)
    ]


def _store(arrays: dict[str, Array], name: str, array: Array) -> str:
    arrays[name] = array
    return name


def _limit(reference: Reference) -> dict[str, Any]:
    special = dict(zip(("nan", "inf", "-inf"), reference.special, strict=True))
    return {"special": special, "rule": _rule(reference.rule)}


def _rule(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, Signal):
        return {"rule": "snr", "min_db": rule.min_db, "scale_rms": rule.scale_rms}
    most = None if math.isinf(rule.max_abs) else rule.max_abs
    return {"rule": "budget", "rms": rule.rms, "max_abs": most, "baseline": _errors(rule.baseline)}


def _errors(errors: Deviation | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    return {"size": errors.size, "scale_rms": errors.scale_rms, "scale_max": errors.scale_max,
            "rms": errors.rms, "max_abs": errors.max_abs, "cosine": errors.cosine}  # fmt: skip


def _require_printable(value: Any) -> None:
    """Names are read as one line of text each; a model may call a value anything."""
    if isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            _require_printable(item)
    elif isinstance(value, list):
        for item in value:
            _require_printable(item)
    elif isinstance(value, str) and (not value.isprintable() or len(value) > 1000):
        raise UsageError("capsule", f"can't hold the name {value[:60]!a}", "rename it in the model")
