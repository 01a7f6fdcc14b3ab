"""The type of a norm kind: which statistic divides the centred activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from normexport.errors import UsageError
from normexport.norms.scope import Scope

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Tails = Literal["light", "middle", "heavy"]

#: Defaults of the parameters that some kinds take, as the original layers have them.
K_DEFAULT, CHUNKS_DEFAULT = 10, 16
#: Every parameter that a kind may take, with its default: the operators of torch and the C interface pass these on.
PARAMETERS: Mapping[str, int] = MappingProxyType({"k": K_DEFAULT, "chunks": CHUNKS_DEFAULT})
#: Default of what is added to a statistic; operators hold it as float32.
EPSILON_DEFAULT = 1e-5


class Statistic(Protocol):
    """d (C, n), centred -> statistic (C,). `correction` 0.0 is the kind's own constant, else it replaces it."""

    def __call__(self, d: Any, *, k: int, chunks: int, correction: float) -> Any: ...


class Slope(Protocol):
    """d (R, *elements), centred, and worth (R,) -> worth times the derivative of the statistic for each d, like d.

    And the sum of that over each row, (R,): a kind knows it without reading all of its slope again.
    """

    def __call__(self, d: Any, worth: Any, *, k: int, chunks: int, correction: float) -> tuple[Any, Any]: ...


class AddSlope(Protocol):
    """Add what a `Slope` gives to `out`, like d, in place: the sum over each row, (R,).

    None where the slope has to be computed for every d instead; then nothing is added.
    """

    def __call__(self, out: Any, d: Any, worth: Any, *, k: int, chunks: int, correction: float) -> Any: ...


class Team(Protocol):
    """Processes that hold parts of the same rows, one after the other: what each knows of all, by tensors (R, ...)."""

    count: int  #: elements of a row, of all processes together
    before: int  #: elements of a row that processes before this one hold

    def sum(self, values: Any) -> Any:
        """The sums over the processes, like `values`."""

    def max(self, values: Any) -> Any:
        """The largest of all processes, like `values`."""

    def gather(self, values: Any) -> Any:
        """(R, m) -> (R, processes * m): what every process has, next to each other."""


@dataclass(frozen=True)
class Shared:
    """A statistic of rows that lie in several processes, exactly that of the rows in one.

    Attributes:
        statistic: (d (R, n of this process), team, k, chunks, correction) -> (R,), the same in all processes.
        slope: (d, worth (R,), stat (R,), team, k, chunks, correction) -> `NormKind.torch_slope`, of this process's d.
    """

    statistic: Callable[..., Any]
    slope: Callable[..., Any]


class IntegerStatistic(Protocol):
    """The statistic of integers, before its factor: r (C, n) = q - p, e (C,) = n*p - sum q -> float64 (C,).

    An element deviates from the mean by exactly r + e/n, |e| <= n/2; see `quantized.py`.
    """

    def __call__(self, r: Integers, e: Integers, *, k: int, chunks: int) -> Array: ...


class Factor(Protocol):
    """(n elements reduced, chunks) -> what the plain statistic is multiplied with, float64."""

    def __call__(self, n: int, chunks: int) -> float: ...


@dataclass(frozen=True, eq=False)  # a kind is itself alone: what is derived from it is kept by it
class NormKind:
    """One kind of norm: `y = scale * d / (statistic(d) + epsilon) + bias` with `d = x - mean(x)`.

    Attributes:
        name: key in the registry and in files, "l1".
        title: prefix of module and operator names, "L1" in L1BatchNorm2d.
        formula: the statistic in words for documentation tables.
        statistic: float64 numpy, (C, n) -> (C,).
        integer_statistic: the statistic of int8 tensors, without the factor.
        factor: the kind's own constant.
        torch_statistic: the same formula by tensor methods, (R, n) -> (R,); differentiable. With a `torch_slope` the
            elements may have several axes.
        torch_slope: the derivative of `torch_statistic` for each d, times a factor, by tensor methods; where several d
            tie for a place among the largest they share it evenly. None leaves it to automatic differentiation, which
            is slower.
        torch_add_slope: the same where only few d have a slope, which are looked up one by one: for processors, not for
            compilers. None where most have one.
        shared: statistic and slope for rows that lie in several processes; None where that is not known.
        onnx_statistic: ONNX text computing `stat`; see `function.py` for the names it may use.
        onnx_constant: ONNX text computing `own`, the kind's own constant (a scalar).
        onnx_integer_statistic: ONNX text of `integer_statistic`; see `quantized_function.py` for the names.
        by_rows: whether `onnx_statistic` reads `rows` (R, n) rather than `d` (N, C, S).
        parameters: integer attributes beyond epsilon and correction, some of `PARAMETERS`, with their defaults.
        native: its number in the C interface of the compiled kernels; None where no kernel computes it.
        per_std: the statistic over the standard deviation, of numbers spread as `tails` says.
        tails: how the activations of networks trained with it are spread, measured on the examples: "light" (between
            normal and logistic), "middle" (between logistic and Laplace) or "heavy" (Laplace).
        extreme: the largest deviation in units of the statistic, of 65,536 elements; infinite where it does not tell.
        order: the p of the p-norm that the statistic is a multiple of, where it is one: layers of others say it.
        hint: what the class name of somebody else's layer holds where it is this norm, in lower case; "" for nothing.

    Raises:
        ValueError: a parameter that is not among `PARAMETERS`.
    """

    name: str
    title: str
    formula: str
    statistic: Statistic
    integer_statistic: IntegerStatistic
    factor: Factor
    torch_statistic: Statistic
    onnx_statistic: str
    onnx_constant: str
    onnx_integer_statistic: str
    by_rows: bool = False
    parameters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    torch_slope: Slope | None = None
    torch_add_slope: AddSlope | None = None
    shared: Shared | None = None
    native: int | None = None
    per_std: float = 1.0
    tails: Tails = "middle"
    extreme: float = math.inf
    order: float | None = None
    hint: str = ""

    def __post_init__(self) -> None:
        unknown = ", ".join(self.parameters.keys() - PARAMETERS.keys())
        if unknown:
            raise ValueError(f"kind {self.name!r}: nothing passes {unknown} on, only {', '.join(PARAMETERS)}")

    def op(self, scope: Scope) -> str:
        """The ONNX operator of live statistics, also the plugin's name: L1BatchNorm, L1GroupNorm."""
        return f"{self.title}{scope.title}Norm"

    def quantized_op(self, scope: Scope) -> str:
        """The same norm from int8 to int8: QL1BatchNorm, QL1GroupNorm."""
        return f"Q{self.op(scope)}"


def reference(
    kind: NormKind,
    x: Array,
    scale: Array,
    bias: Array,
    *,
    epsilon: float = EPSILON_DEFAULT,
    scope: Scope = Scope.BATCH,
    num_groups: int = 1,
    k: int = K_DEFAULT,
    chunks: int = CHUNKS_DEFAULT,
    correction: float = 0.0,
) -> Array:
    """The norm computed live, in float64 numpy.

    x (N, C, *space); scale and bias (C,). Statistics over what `scope` says; `num_groups` is read by `Scope.GROUP`.
    n = 1 and constant channels give bias, NaN gives NaN, an empty batch an empty result.

    Raises:
        UsageError: k exceeds the number of elements reduced, or `num_groups` does not divide C.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.size == 0:
        return np.zeros(x.shape)
    n, c = x.shape[:2]
    rows = scope.rows(x.reshape(n, c, -1), num_groups)
    with np.errstate(invalid="ignore"):  # Inf - Inf is NaN, as it should be
        d = rows - rows.mean(axis=1, keepdims=True)
        z = d / (kind.statistic(d, k=k, chunks=chunks, correction=correction)[:, None] + epsilon)
    z = scope.unrows(z, n, c)
    y = z * np.asarray(scale, np.float64)[:, None] + np.asarray(bias, np.float64)[:, None]
    return np.asarray(y.reshape(x.shape))


def element_axes(d: Any) -> tuple[int, ...]:
    """The axes of a row's elements in d (R, *elements), from the end."""
    return tuple(range(1 - d.dim(), 0))


def beside(worth: Any, d: Any) -> Any:
    """worth (R) to be multiplied with d (R, *elements)."""
    return worth.reshape(-1, *[1] * (d.dim() - 1))


def equals(high: Any, low: Any) -> Any:
    """Where high >= low are equal: 1, else 0, as numbers of their torch type.

    Comparisons of torch make booleans, which its vectorised operators do not take: this is a fifth of their time.
    """
    return (high - low).sign_().neg_().add_(1)


def mean_deviation(whole: Integers, part: Integers, n: int, count: int) -> Array:
    """(whole + part/n) / count in float64: deviations summed as integers, each of them |r| + (+-e)/n."""
    return np.asarray((whole + part / n) / count)


def require_k(k: int, n: int) -> None:
    """Refuse k largest of n < k elements."""
    if not 1 <= k <= n:
        raise UsageError(
            "Top-k norm",
            f"k = {k} of only {n} elements per channel",
            "choose 1 <= k <= elements, or a larger input",
        )
