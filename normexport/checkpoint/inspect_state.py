"""What a bare state_dict says of its norms and weight norms, with no model to put it into."""

from __future__ import annotations

from normexport.checkpoint.dialect import Dialect
from normexport.checkpoint.finite import require_finite, require_finite_norm
from normexport.checkpoint.health import health
from normexport.checkpoint.recognise import Stored, may_be, stored_norms
from normexport.checkpoint.records import UNKNOWN, NormRecord, WeightNormRecord
from normexport.checkpoint.replace_norms import kind_label
from normexport.checkpoint.state import State
from normexport.checkpoint.weight_norm import stored_weights

AMBIGUOUS = "ambiguous"


def inspect_state(
    state: State, dialect: Dialect | None = None
) -> tuple[tuple[NormRecord, ...], tuple[WeightNormRecord, ...]]:
    """Norms and weight norms of `state`, in the order of the file.

    A norm with several readings is listed as "ambiguous" with its readings, so that they can be seen and one
    chosen; loading it into a model refuses. Epsilons are not in a state_dict: those of the constructors are used.

    Raises:
        CheckpointError: NaN or Inf in norms, NaN in other weights.
    """
    norms = tuple(_record(stored, dialect) for stored in stored_norms(state) if stored.readings())
    require_finite(state.tensors, may_be_infinite=state.tensors.keys())
    return norms, tuple(stored.record() for stored in stored_weights(state))


def _record(stored: Stored, named: Dialect | None) -> NormRecord:
    require_finite_norm(stored)
    options = stored.readings(named)
    if named is not None and named in options:
        options = (named,)
    first = options[0]
    params = first.decode(stored.arrays(), stored.eps)
    if len(options) > 1:
        names = "|".join(each.name for each in options)
        words = f"{may_be(options)}: give its code with --model, or pass --dialect {names}"
        return NormRecord(stored.path, UNKNOWN, AMBIGUOUS, params.channels, "running", (words,))
    kind = kind_label(first, None, stored)
    return NormRecord(stored.path, kind, first.name, params.channels, "running", health(first, stored.arrays(), params))
