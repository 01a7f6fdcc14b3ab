"""A candidate that does not run on inputs on which the reference does: it fails there, whatever it gives elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from normexport.errors import UsageError
from normexport.proof.inputs.batches import Batch
from normexport.proof.verdict import ParityReport, Row
from normexport.runtime import Runtime, release_memory


def report_not_run(
    refusal: UsageError,
    candidate: Runtime,
    reference: Callable[[], Runtime],
    baseline: Callable[[], Runtime],
    batches: Sequence[Batch],
    precision: str,
) -> ParityReport:
    """The report, a row for each output of the reference.

    Raises:
        UsageError: `refusal` itself, where the candidate runs on none of the inputs, or the reference does not run
            on those either: then it is the inputs that are wrong.
    """
    refused = [(batch, error) for batch in batches if (error := _refusal(candidate, batch)) is not None]
    if not 0 < len(refused) < len(batches):
        raise refusal
    at, why = refused[0]
    exact, own = reference(), baseline()
    try:
        for runtime in (exact, own):
            runtime.run(at.feeds)
    except UsageError:
        raise refusal from None
    finally:
        release_memory()
    fault = f"does not run on {at.name}, where the reference does: {why.cause}"
    rows = tuple(Row(output, "", "", at.name, fault, None, None, None, float("inf")) for output in exact.output_names)
    return ParityReport(exact.name, own.name, candidate.name, precision, rows, batches=tuple(batches))


def _refusal(candidate: Runtime, batch: Batch) -> UsageError | None:
    try:
        candidate.run(batch.feeds)
    except UsageError as error:
        return error
    return None
