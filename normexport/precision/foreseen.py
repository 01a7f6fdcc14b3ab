"""What `reduce_precision` would refuse, told before there is a graph: by paths of modules and shapes of outputs.

Only what is sure is refused here. The rest, such as a pattern that matches a module without operators, is told of the
graph by `check_asked`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import onnx

from normexport import norms
from normexport.errors import UsageError
from normexport.onnx_export.inputs import InputSpec
from normexport.precision.collected import Collected
from normexport.precision.labelled_output import check_labels, labelled_output
from normexport.precision.labels import Labelled
from normexport.precision.numbered import Numbered
from normexport.precision.reduced import Judged
from normexport.precision.runs import Given
from normexport.proof.inputs.batches import fixed_batches_in
from normexport.runtime import Array

if TYPE_CHECKING:
    from normexport.onnx_export.foreseen import Foreseen

_SHOWN = 4  # modules in an error


def require_modules(patterns: Sequence[str], modules: Sequence[str]) -> None:
    """Refuse patterns that can match none of these module paths, nor an operator of no module.

    Raises:
        UsageError: naming the first.
    """
    for pattern in patterns if modules else ():
        if not any(fnmatch.fnmatchcase(path, pattern) for path in modules) and not _may_be_operator(pattern):
            inner = [path for path in modules if not any(other.startswith(f"{path}.") for other in modules)]
            some = ", ".join(inner[:_SHOWN])
            raise UsageError(f"--keep-fp32 {pattern}", "matches no module", f"modules are called {some}, ...")


def require_labels_fit(judged: Judged, labelled: Labelled, foreseen: Foreseen, inputs: Sequence[InputSpec]) -> None:
    """Refuse labels that fit none of these outputs.

    Nothing is refused where the shape of one is not known, or has not its samples on the first axis: `collect` then
    runs the samples one by one, and finds out.

    Raises:
        UsageError: see `labelled_output` and `check_labels`.
    """
    names = tuple(output.name for output in foreseen.outputs)
    renamed = labelled.output is not None and labelled.output not in names and "_out" in labelled.output
    if renamed or any((output.shape or ())[:1] != (foreseen.samples,) for output in foreseen.outputs):
        return
    values = {output.name: _of_shape(output.shape or (), output.dtype) for output in foreseen.outputs}
    known = Collected("", names, values, {}, {}, foreseen.samples, foreseen.samples, 0.0)
    check_labels(labelled, values[labelled_output(known, labelled)], _samples_in(judged.data, inputs, foreseen.samples))


def _samples_in(data: Given, inputs: Sequence[InputSpec], fixed: int) -> int:
    """How many samples there are; `fixed` make a batch of a model that fixes it."""
    if isinstance(data, Numbered):
        return len(data.numbers)
    counts = [len(data[spec.name]) for spec in inputs if spec.batched]
    return min(counts) if counts else fixed_batches_in(inputs, data) * fixed


def _of_shape(shape: tuple[int, ...], dtype: str) -> Array:
    """An array of that shape that takes no memory."""
    kind = np.dtype(dtype) if dtype in np.sctypeDict else np.dtype(np.float32)  # bfloat16 is none of numpy's
    return np.broadcast_to(np.zeros((), kind), shape)


def _may_be_operator(pattern: str) -> bool:
    """Whether a pattern may match a node of no module, which has the name of its operator (`name_nodes`)."""
    if "." in pattern:
        return False
    head = pattern[: min((pattern.index(sign) for sign in "*?[" if sign in pattern), default=len(pattern))]
    return any(name.startswith(head) or head.startswith(name) for name in _operators())


@cache
def _operators() -> frozenset[str]:
    return frozenset(schema.name for schema in onnx.defs.get_all_schemas()) | norms.functions().keys()
