"""What a reader asks first, each answered in a sentence: from the same values that the tables below show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from normexport.dtypes import EIGHT_BITS, FLOAT32, SHORT
from normexport.reports.page.values import Compared, Document, Parity, Reduced, Score, Snr
from normexport.reports.parity_rows import share_words
from normexport.reports.precision_table import accuracy_words
from normexport.reports.words import case_name, count
from normexport.text import port_words, printable, shortened
from normexport.verdicts import Verdict

_FEW = 3  # norms or modules that a sentence names
_NAME = 40  # characters of a file's name
_LONG = 120  # characters of a reason; the table has all


@dataclass(frozen=True)
class Answer:
    """A question, its answer, and the section of the page that has the numbers ("" where there is none)."""

    question: str
    answer: str
    section: str


def sentence(document: Document) -> str:
    """What was found, as one sentence behind the word of the verdict."""
    judged = document.judgement
    if judged is None:
        return _measured(document)
    if judged.verdict is Verdict.INCONCLUSIVE:
        return f"Shown to be neither right nor wrong: {shortened(judged.reasons, 1) or 'nothing was compared'}."
    if judged.verdict is Verdict.FAILED:
        return f"{_what(document)} does not compute what it has to: {_why_not(document)}"
    if document.score is not None:
        return f"{document.name} keeps within its limits: {', '.join(score_words(document.score))}."
    proven = document.parity
    if proven is None:
        return f"{document.name} passed."
    words = f"{_what(document)} computes what {_reference(document)} computes"
    if proven.min_snr is not None:
        lowest = min((each.snr_db for each in proven.outputs if each.snr_db is not None), default=None)
        return f"{words}: every output keeps {proven.min_snr:g} dB" + (
            "." if lowest is None else f", at {lowest:.1f} dB."
        )
    within = f"{words}, within the error of {SHORT.get(proven.precision, proven.precision)}: {_extent(proven)}"
    cost = "" if document.precision is None else f"; {', '.join(cost_words(document.precision))}"
    return f"{within}{cost}."


def _why_not(document: Document) -> str:
    parity = document.parity
    if parity is not None and parity.first_divergence is not None:
        told = _where(parity)
        return told[:1].lower() + told[1:]
    reasons = () if document.judgement is None else document.judgement.reasons
    return f"{shortened(reasons, 1) or 'see below'}."


def _what(document: Document) -> str:
    return "The file made" if document.verb == "convert" else "The candidate"


def _reference(document: Document) -> str:
    return document.name if document.verb == "convert" else "the reference"


def _extent(parity: Parity) -> str:
    outputs = f"{count(len(parity.rows), 'comparison')} of outputs"
    return f"{outputs} and {count(len(parity.layers), 'module boundary')}" if parity.layers else outputs


def _measured(document: Document) -> str:
    if document.verb == "inspect":
        return f"{document.name}: {_would_fold(document)}"
    if document.score is not None:
        words = ", ".join(score_words(document.score)) or "no number"
        return f"{document.name}: {words}; nothing was held against a limit."
    if document.measured is None:
        return document.name
    told = [f"{name}: {words}" for name, words in _ratios(document)]
    cases = count(len(document.measured.cases), "case")
    return f"{cases} measured. " + ("; ".join(told[:_FEW]) or "Nothing was compared") + "."


def _ratios(document: Document) -> Iterator[tuple[str, str]]:
    for each in document.measured.ratios if document.measured is not None else ():
        yield f"{_called(document, each.case)} against {_called(document, each.base)}", each.words


def _called(document: Document, number: int) -> str:
    """A case by its letter, with the file where the cases are of several: "B (other.onnx)"."""
    cases = () if document.measured is None else document.measured.cases
    files = [case.words.rpartition(" on ")[0] for case in cases]
    named = len(set(files)) > 1 and number < len(files)
    return f"{case_name(number)} ({printable(files[number], _NAME)})" if named else case_name(number)


def score_words(score: Score) -> list[str]:
    """The words of the terminal."""
    known: Any = score
    return accuracy_words(known)


def answers(document: Document, versions: Sequence[tuple[str, str]]) -> list[Answer]:
    """The five questions, as far as they arise."""
    told = ", ".join(f"{name} {version}" for name, version in versions)
    last = Answer("Which versions?", told or "The report names none.", "versions")
    if document.verb == "inspect":
        return [Answer("What would not fold, and why?", _unfolded(document), "norms"), last]
    found = [Answer("Did it pass?", _did_it_pass(document), "verdict")]
    if document.measured is not None:
        compared = "; ".join(f"{name}: {words}" for name, words in _ratios(document))
        found = [Answer("Which takes longer?", compared or "Nothing was compared.", "bench")]
    if document.verb == "convert":
        found.append(Answer("What is not folded, and why?", _unfolded(document), "norms"))
    if document.parity is not None:
        found.append(Answer("Where is the error?", _where(document.parity), "parity"))
    if document.verb == "convert":
        found.append(
            Answer("What did int8 cost?", _cost(document.precision), "precision" if document.precision else "")
        )
    elif document.score is not None:
        found.append(Answer("What does it cost?", ", ".join(score_words(document.score)) or "Not measured.", "score"))
    return [*found, last]


def _did_it_pass(document: Document) -> str:
    judged = document.judgement
    if judged is None:
        return "Nothing was judged: this is a measurement."
    if judged.passed:
        return "Yes."
    more = f" ({count(len(judged.reasons), 'reason')})" if len(judged.reasons) > 1 else ""
    return f"No{more}." if judged.verdict is Verdict.FAILED else f"Not shown either way{more}."


def _would_fold(document: Document) -> str:
    """ "12 of 13 norms would fold."."""
    norms = document.norms
    if not any(row.fate for row in norms):
        return f"{count(len(norms), 'norm')}; what would fold the graph alone tells." if norms else "no norms."
    return f"{sum(row.fate == 'folded' for row in norms)} of {count(len(norms), 'norm')} would fold."


def _unfolded(document: Document) -> str:
    norms = document.norms
    if not norms:
        return "There are no norms."
    if document.verb == "inspect" and not any(row.fate for row in norms):
        return "Not known without the graph."
    open_ones = [row for row in norms if row.fate != "folded"]
    if not open_ones:
        return f"Nothing: {count(len(norms), 'norm')} of {len(norms)} folded."
    told = [
        f"{row.path} ({row.fate or 'kept'}): {printable(row.why or 'folding was off', _LONG)}"
        for row in open_ones[:_FEW]
    ]
    rest = f"; and {len(open_ones) - _FEW} more" if len(open_ones) > _FEW else ""
    return f"{len(open_ones)} of {count(len(norms), 'norm')}. {'; '.join(told)}{rest}."


def _where(parity: Parity) -> str:
    if parity.min_snr is not None:
        return _where_by_snr(parity)
    first = next((row for row in parity.layers if row.path == parity.first_divergence), None)
    if first is not None and parity.first_divergence is not None:
        return f"First out of its budget: {_used(first)}."
    closest = [worst(rows) for rows in (parity.rows, parity.layers) if rows]
    told = [f"module {_used(row)}" if row.path else _used(row) for row in closest]
    kind = (
        "Out of budget" if any(row.verdict is Verdict.FAILED for row in parity.rows) else "All within budget; closest"
    )
    return f"{kind}: {'; '.join(told)}." if told else "Nothing was compared."


def _where_by_snr(parity: Parity) -> str:
    known = [each for each in (*parity.outputs, *parity.boundaries) if each.snr_db is not None]
    if parity.first_divergence is not None:
        return f"First module below {parity.min_snr:g} dB: {parity.first_divergence}."
    if not known:
        return "No output has a ratio."
    lowest = min(known, key=lambda each: each.snr_db or 0.0)
    return f"Lowest: {lowest.name}, {snr_words(lowest)}."


def _used(row: Compared) -> str:
    place = f"{row.path} ({row.type})" if row.path else port_words("output", row.tensor)
    return f"{place}, {used_words(row)} ({row.inputs})"


def used_words(row: Compared) -> str:
    """ "24 % of its budget", or why there is no number."""
    if row.fault is not None:
        return row.fault
    if row.error is None:
        return "not measured"
    return f"{share_words(math.inf if row.share is None else row.share)} of its budget"


def worst(rows: Sequence[Compared]) -> Compared:
    """The row that uses most of its budget."""
    return max(rows, key=lambda row: math.inf if row.share is None else row.share)


def snr_words(each: Snr) -> str:
    """ "37.0 dB"."""
    return "no ratio" if each.snr_db is None else f"{each.snr_db:.1f} dB"


def _cost(precision: Reduced | None) -> str:
    if precision is None:
        return f"Nothing: the file computes in {FLOAT32.name}."
    words = ", ".join(cost_words(precision))
    return f"{words[:1].upper()}{words[1:]}." if precision.dtype in EIGHT_BITS else f"There is no int8: {words}."


def cost_words(precision: Reduced) -> list[str]:
    """ "SNR 37.0 dB", "3 modules kept in float32": what is known of a lower precision."""
    words = [] if precision.score is None else score_words(precision.score)
    kept = [path for path, _ in precision.kept]
    named = f" ({shortened(kept, _FEW)})" if kept else ""
    stays = f"{count(len(kept), 'module')} kept" if kept else "nothing kept"
    return [
        f"{precision.dtype}: {words[0]}" if words else precision.dtype,
        *words[1:],
        f"{stays} in {precision.remainder}{named}",
    ]
