"""Which kind of norm divides, and by which constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from normexport.errors import UsageError
from normexport.graphs.refusal import Refuse
from normexport.norms import KINDS, NormKind, Scope
from normexport.norms.kind import Array
from normexport.recognition.behaviour import Divided, OtherDivisor, draw
from normexport.recognition.extent import Extent

_SAME = 1e-8  # relative; kinds that are told apart differ by a hundredth and more on these inputs
_FORMS = (0, 1, 2, 3)


@dataclass(frozen=True, eq=False)
class Reading:
    """A norm by its parameters: `norms.reference` of these is what a sub-graph was read as."""

    kind: NormKind
    extent: Extent
    scale: Array
    bias: Array
    epsilon: float
    correction: float
    parameters: Mapping[str, int]

    @property
    def scope(self) -> Scope:
        """What the statistics are taken over."""
        return self.extent.scope


@dataclass(frozen=True, eq=False)
class _Candidate:
    kind: NormKind
    parameters: Mapping[str, int]

    def raw(self, x: Array, extent: Extent) -> Array:
        """The statistic without its constant, by channel: (C, m)."""
        n, c = x.shape[:2]
        rows = extent.rows(x.reshape(n, c, -1))
        d = rows - rows.mean(axis=1, keepdims=True)
        given = {"k": 0, "chunks": 0, **self.parameters}
        stat = np.asarray(self.kind.statistic(d, **given, correction=1.0))
        return extent.by_channel(stat, c)

    def factor(self, n: int) -> float:
        return self.kind.factor(n, self.parameters.get("chunks", 0))


def read_statistic(
    divided: Divided, tried: Sequence[tuple[int, ...]], final: tuple[int, ...], numbers: Sequence[int], fixed: bool
) -> Reading:
    """The kind whose statistic grows as the divisor does, on every form of input and at every size.

    tried: shapes that the sub-graph computes; final: one that the file allows. numbers: the whole numbers in the
    sub-graph, among which are its k and its chunks. fixed: whether the file allows no other number of elements.

    Raises:
        Refuse: it is no kind's.
    """
    extent, alive = divided.extent, divided.alive
    shapes = list(dict.fromkeys([*tried, final]))
    samples = [draw(shapes[0], 1, form) for form in _FORMS] + [draw(shape, 2, 1) for shape in shapes[1:]]
    growths = [divided.growth(x)[alive] for x in samples]
    for candidate in _candidates(numbers):
        shares = _shares(candidate, samples, growths, divided)
        if shares is None:
            continue
        by_count = {extent.elements(x.shape): share for x, share in zip(samples, shares, strict=True)}
        scale, correction = _constants(candidate, by_count, extent.elements(final), fixed)
        return _reading(divided, candidate, scale, correction)
    raise OtherDivisor(f"its statistic is none of {', '.join(KINDS)}")


def _candidates(numbers: Sequence[int]) -> Iterator[_Candidate]:
    for kind in KINDS.values():
        names = sorted(kind.parameters)
        for values in product(*[numbers] * len(names)):
            yield _Candidate(kind, dict(zip(names, values, strict=True)))


def _shares(
    candidate: _Candidate, samples: Sequence[Array], growths: Sequence[Array], divided: Divided
) -> list[Array] | None:
    """scale / constant by channel (of those alive) for each sample; None where the statistic is another."""
    found: list[Array] = []
    for x, growth in zip(samples, growths, strict=True):
        try:
            share = candidate.raw(x, divided.extent)[divided.alive] / growth
        except UsageError:  # more than there are
            return None
        first = share[:, :1] if not found or x.shape != samples[0].shape else found[0][:, None]
        if not np.isfinite(share).all() or np.abs(share - first).max() > _SAME * np.abs(share).max():
            return None
        found.append(share[:, 0])
    return found


def _constants(candidate: _Candidate, by_count: Mapping[int, Array], final: int, fixed: bool) -> tuple[Array, float]:
    """scale of the channels alive, and the correction: 0 where the constant is the kind's own."""
    own = candidate.factor(final)
    if fixed:
        return by_count[final] * own, 0.0
    if _all_alike([share * candidate.factor(n) for n, share in by_count.items()]):
        return by_count[final] * own, 0.0
    if _all_alike(list(by_count.values())):
        return by_count[final] * own, own
    n = min(n for n in by_count if n != final)
    grown = by_count[n][0] / by_count[final][0] * candidate.factor(n) / own
    raise Refuse(
        f"its constant follows the number of elements unlike {candidate.kind.formula}: from {n} to {final} "
        f"they part by a factor of {grown:.6g}"
    )


def _reading(divided: Divided, candidate: _Candidate, scale: Array, correction: float) -> Reading:
    alive = divided.alive
    epsilons = divided.offset[alive] * scale
    epsilon = float(np.median(epsilons))
    if np.abs(epsilons - epsilon).max() > 1e-6 * abs(epsilon):
        raise Refuse("its epsilon differs from channel to channel")
    if epsilon < 0:
        raise Refuse(f"its epsilon is negative ({epsilon:.3g})")
    whole = np.zeros(len(alive))
    whole[alive] = scale
    groups = dict.fromkeys(divided.extent.scope.parameters, divided.extent.num_groups)
    parameters = {**candidate.parameters, **groups}
    return Reading(candidate.kind, divided.extent, whole, divided.bias, _rounded(epsilon), correction, parameters)


def _rounded(epsilon: float) -> float:
    """The number of few digits that the file rounded to float32, where it is that near."""
    short = float(f"{epsilon:.4g}")
    return short if abs(short - epsilon) <= 2e-7 * abs(epsilon) else epsilon


def _all_alike(arrays: Sequence[Array]) -> bool:
    return all(np.abs(each - arrays[0]).max() <= 1e-6 * np.abs(arrays[0]).max() for each in arrays)
