"""From a candidate that fails to the part that does it.

First by boundaries: each value that both models hold under one name is computed by the candidate from the nearest such
values before it, fed with what the reference gives there in float64. What fails then fails by itself, whatever came
before. Parts are tried in the order of how much worse their result is than what they read, in a run of the whole.

Where no part fails by itself (errors that add up, operators that a runtime joins), the part grows: the last place to
cut at from which an output still fails, then the first value behind it that does. Last, inputs are taken nearer to the
output, and the input is made smaller, as long as it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from normexport.dtypes import EIGHT_BITS, FLOAT8, HALVES, INT8
from normexport.errors import NormExportError
from normexport.narrowing.cut import Cuts, cuts_of, input_names, needed, sub_model, varying
from normexport.narrowing.rules import GRAPH, Excess, Rule, feeds_of, whose
from normexport.precision.half.rounding import rounding_in_float32
from normexport.runtime import Array, Feeds, Float64Runtime, OnnxRuntime

#: Told what happens.
OnStage = Callable[[str], None]

#: Of a value's size, what each precision itself is off; below, a jump says nothing.
_SMALLEST = {
    INT8: 2.0**-8,
    FLOAT8.name: FLOAT8.unit_roundoff,
    **{name: each.unit_roundoff for name, each in HALVES.items()},
}
_USUAL = 1e-6  # of float32
_KEEPS = 0.5  # of its excess, at least, a part keeps on a smaller input: else that shows another, smaller fault
_TRIALS = 60  # of smaller inputs


@dataclass(frozen=True)
class Part:
    """A part of the candidate that fails.

    Attributes:
        output: the name of what it computes.
        inputs: names of what it reads, each with what that is in the reference.
        source: what its output is in the reference.
        values: the numbers that it is fed, by name in the reference.
        excess: how far it is off.
        nodes: of the candidate's part.
        whose: "graph" or "runtime".
    """

    output: str
    source: str
    inputs: Mapping[str, str]
    values: Mapping[str, Array]
    excess: Excess
    nodes: int
    whose: str = GRAPH


class Search:
    """Two models and what is known of them on one set of inputs.

    Args:
        reference, candidate: what is right, and what is judged.
        rule: of the candidate's precision, and
        precision: its name.
        feeds: of the models' inputs.
    """

    def __init__(
        self,
        reference: ir.Model,
        candidate: ir.Model,
        rule: Rule,
        feeds: Feeds,
        on_stage: OnStage = lambda _: None,
        precision: str = "",
    ) -> None:
        self._all = precision in EIGHT_BITS
        self._smallest = _SMALLEST.get(precision, _USUAL)
        self._reference, self._candidate, self._rule, self._on_stage = reference, candidate, rule, on_stage
        self._feeds_of_all = {name: np.asarray(feeds[name]) for name in input_names(reference)}
        self._values: dict[str, Array] = dict(self._feeds_of_all)
        self._cuts = Cuts({}, {})

    def failing(self) -> Part | None:
        """An output that is out of its budget, as a part that is the whole; None where there is none."""
        inputs = {name: name for name in input_names(self._candidate)}
        ours = {str(value.name) for value in self._reference.graph.outputs}
        for value in self._candidate.graph.outputs:
            name = str(value.name)
            if name in ours and (part := self._try(name, name, inputs)) is not None:
                return part
        return None

    def find(self) -> Part | None:
        """The part that fails; None where the candidate's outputs are all within their budgets."""
        failing = self.failing()
        if failing is None:
            return None
        self._on_stage("boundaries")
        self._compute_all()
        whole = replace(failing, values=self._values)
        part = self._first_alone() or self._grown(whole)
        self._on_stage("graph")
        part = self._cut_nearer(part)
        self._on_stage("input")
        part = self._with_smaller_input(part)
        return replace(part, whose=whose(part.excess, self.model_of(part), self._feeds(part)[1]))

    def _compute_all(self) -> None:
        """Every value of the reference in float64."""
        captured: dict[str, Array] = {}
        runtime = Float64Runtime(self._reference)
        outputs = runtime.run(self._feeds_of_all, varying(self._reference), captured.__setitem__)
        self._values |= {**captured, **outputs}
        self._cuts = cuts_of(self._reference, self._candidate, self._values)

    def _first_alone(self) -> Part | None:
        """A part between neighbouring cuts that fails by itself; of eight bits the one that is furthest out.

        There several parts may lose too much, each quantiser on its own inputs.
        """
        worst: Part | None = None
        for output in self._by_jump():
            reads, _ = needed(self._candidate, output, self._cuts.sure)
            part = self._try(output, self._cuts.sure[output], {name: self._meaning(name) for name in reads})
            if part is not None and not self._all:
                return part
            if part is not None and (worst is None or part.excess.times > worst.excess.times):
                worst = part
        return worst

    def _meaning(self, name: str) -> str:
        return self._cuts.sure.get(name) or self._cuts.maybe.get(name, name)

    def _by_jump(self) -> list[str]:
        """The cuts, by how much worse they are than what they are computed from; alike, in their order."""
        computed = [name for name in self._cuts.sure if name not in input_names(self._candidate)]
        errors = self._errors(computed)
        jumps = {}
        for name in computed:
            reads, _ = needed(self._candidate, name, self._cuts.sure)
            before = max((errors.get(each, 0.0) for each in reads), default=0.0)
            before = 0.0 if not math.isfinite(before) else before
            own = errors.get(name, math.inf)
            jumps[name] = own / max(before, self._smallest) if own == own else math.inf
            if not math.isfinite(own) and not all(math.isfinite(errors.get(each, 0.0)) for each in reads):
                jumps[name] = 0.0  # spoilt before
        return sorted(computed, key=lambda name: -jumps[name])

    def _errors(self, names: Sequence[str]) -> dict[str, float]:
        """Relative errors of a run of the whole candidate; infinite where one is NaN or of another shape."""
        found: dict[str, float] = {}

        def measure(name: str, value: Array) -> None:
            exact = self._values[self._cuts.sure[name]]
            if value.shape != exact.shape or value.dtype.kind not in "fiub" or exact.dtype.kind not in "fiub":
                found[name] = math.inf
                return
            with np.errstate(all="ignore"):
                error = np.abs(value.astype(np.float64) - exact.astype(np.float64))
                size = float(np.max(np.abs(exact.astype(np.float64)), initial=0.0))
            largest = float(np.max(error, initial=0.0))
            found[name] = largest / size if size else (0.0 if largest == 0 else math.inf)
            if found[name] != found[name]:
                found[name] = math.inf

        try:
            runtime = OnnxRuntime(rounding_in_float32(self._candidate))
            feeds = {name: self._values[name] for name in runtime.input_names}
            outputs = runtime.run(feeds, names, measure)
            for name, value in outputs.items():
                if name in self._cuts.sure and name not in found:
                    measure(name, value)
        except NormExportError:  # what can't be run as a whole is tried part by part
            return {}
        return found

    def _grown(self, failing: Part) -> Part:
        """The shortest stretch that fails, where no part between two neighbours does."""
        names = [name for name in self._cuts.sure if name not in input_names(self._candidate)]
        low, high, best = 0, len(names), failing  # cutting behind `low` names fails, behind `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            part = self._stretch(failing.output, failing.source, names[:middle])
            low, high, best = (middle, high, part) if part is not None else (low, middle, best)
        first = names[:low]
        for name in names[low:]:
            part = self._stretch(name, self._cuts.sure[name], first) if name != failing.output else None
            if part is not None and part.nodes < best.nodes:
                return part
        return best

    def _stretch(self, output: str, source: str, cut: Sequence[str]) -> Part | None:
        """What computes a value from the last of the cuts that are allowed."""
        allowed = {*cut, *input_names(self._candidate)} - {output}
        reads, _ = needed(self._candidate, output, allowed)
        return self._try(output, source, {name: self._meaning(name) for name in reads})

    def _cut_nearer(self, part: Part) -> Part:
        """Take values inside a part as its inputs, one after the other, where it still fails."""
        extra = [name for name in self._cuts.maybe if self._cuts.maybe[name] in self._values and name != part.output]
        inner = [name for name in self._cuts.sure if name != part.output]
        for name in [*reversed(extra), *reversed(inner)]:
            reads, nodes = needed(self._candidate, part.output, {*part.inputs, name})
            if name in part.inputs or name not in reads or nodes >= part.nodes:
                continue
            nearer = self._try(part.output, part.source, {each: self._meaning(each) for each in reads}, part.values)
            part = nearer or part
        return part

    def _with_smaller_input(self, part: Part) -> Part:
        """Halve the axes of what is fed, the last ones first, where it still fails."""
        trials = 0
        shrunk = True
        while shrunk and trials < _TRIALS:
            shrunk = False
            names = list(dict.fromkeys(part.inputs.values()))
            for axis in reversed(range(max((part.values[name].ndim for name in names), default=0))):
                for half in (0, 1):
                    smaller = _halved(part.values, names, axis, half)
                    trials += 1
                    found = None if smaller is None else self._try(part.output, part.source, part.inputs, smaller)
                    if found is not None and found.excess.times >= _KEEPS * part.excess.times:
                        part, shrunk = found, True
                        break
        return part

    def _try(
        self, output: str, source: str, inputs: Mapping[str, str], values: Mapping[str, Array] | None = None
    ) -> Part | None:
        """The part as one that fails; None where it does not, or can't be judged."""
        held = self._values if values is None else values
        try:
            _, nodes = needed(self._candidate, output, inputs)
            part = Part(output, source, dict(inputs), held, _NOTHING, nodes)
            ours, theirs = self._models(part)
            given, fed = self._feeds(part)
            excess = self._rule(ours, given, theirs, fed)
        except (NormExportError, KeyError, ValueError):  # a part that stands for nothing alone: another shape, say
            return None
        return None if excess is None else Part(output, source, dict(inputs), held, excess, nodes)

    def _feeds(self, part: Part) -> tuple[dict[str, Array], dict[str, Array]]:
        """For the reference's part, and for the candidate's."""
        reads = self._reads(part)
        return feeds_of({name: name for name in reads}, part.values), feeds_of(part.inputs, part.values)

    def _reads(self, part: Part) -> list[str]:
        """What the reference's part is computed from: the same values, and what lies on ways around them."""
        meant = set(part.inputs.values())
        if part.source in meant:
            return [part.source]
        return needed(self._reference, part.source, {*meant, *input_names(self._reference)} - {part.source})[0]

    def _models(self, part: Part) -> tuple[ir.Model, ir.Model]:
        ours = sub_model(self._reference, {name: part.values[name] for name in self._reads(part)}, part.source)
        return ours, self.model_of(part)

    def model_of(self, part: Part) -> ir.Model:
        """The candidate's part as a model of its own."""
        return sub_model(
            self._candidate, {name: part.values[source] for name, source in part.inputs.items()}, part.output
        )


_NOTHING = Excess(0.0, "", np.zeros(0), np.zeros(0))


def _halved(values: Mapping[str, Array], names: Sequence[str], axis: int, half: int) -> dict[str, Array] | None:
    """One half of every array that is as long along an axis as the longest; None where that is 1."""
    longest = max((values[name].shape[axis] for name in names if values[name].ndim > axis), default=1)
    if longest < 2:
        return None
    middle = (longest + 1) // 2
    part = slice(0, middle) if half == 0 else slice(longest - middle, longest)
    cut = (slice(None),) * axis + (part,)
    halved = dict(values)
    for name in names:
        if values[name].ndim > axis and values[name].shape[axis] == longest:
            halved[name] = np.ascontiguousarray(values[name][cut])
    return halved
