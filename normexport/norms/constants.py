"""Constants that make a statistic comparable to a standard deviation, each with its source."""

from __future__ import annotations

import math
from typing import Any

#: sqrt(pi/2): a Gaussian's standard deviation over its mean absolute deviation (Hoffer et al. 2018, section 3.1).
L1_CONSTANT = math.sqrt(math.pi / 2)

#: 1 + sqrt(pi ln 4): the numerator of the extreme-value constant (Hoffer et al. 2018, section 3.2).
EXTREME_NUMERATOR = 1 + math.sqrt(math.pi * math.log(4))

#: RangeBN halves the range and shrinks it: 0.35 * C(chunk length) (Banner et al. 2018, section 3).
RANGE_SHARE = 0.35


def extreme_constant(n: int) -> float:
    """C(n) = (1 + sqrt(pi ln 4)) / sqrt(8 ln n), the factor of the largest deviation among n elements.

    The same constant serves Top-k for every k, as the original layers have it: neither estimates sigma
    (C*max/sigma is 1.42 to 1.46 on Gaussians of 1e3 to 8e5 elements); the trained gamma absorbs the rest.
    n is taken as at least 2: ln 1 = 0, and a single element deviates by nothing anyway.
    """
    return EXTREME_NUMERATOR / math.sqrt(8 * math.log(max(n, 2)))


def chunk_layout(n: int, chunks: int) -> tuple[int, int]:
    """Length L and count m of the chunks that n elements are cut into: L = max(2, ceil(n/chunks)), m = ceil(n/L).

    Where `chunks` divides n this is chunks of n/chunks, as in the original layer. Else the last chunk is
    shorter, so that no batch size is an error, and no chunk but a last one has fewer than two elements.
    """
    length = max(2, -(-n // chunks))
    return length, max(1, -(-n // length))


def torch_extreme_constant(like: Any, n: Any) -> Any:
    """`extreme_constant`; of a size that is open while a network is traced, a scalar tensor of `like`'s type."""
    if isinstance(n, int):
        return extreme_constant(n)
    return EXTREME_NUMERATOR / (8 * like.new_full((), n).clamp(min=2).log()).sqrt()


def extreme_text(count: str, result: str) -> str:
    """`extreme_constant` as ONNX text: `result` from the int64 scalar `count`, in the dtype of `scale`."""
    return f"""
        numerator64 = Constant <value = double {{{EXTREME_NUMERATOR!r}}}>()
        numerator = CastLike(numerator64, scale)
        two64 = Constant <value = double {{2.0}}>()
        two = CastLike(two64, scale)
        eight64 = Constant <value = double {{8.0}}>()
        eight = CastLike(eight64, scale)
        elements = CastLike({count}, scale)
        several = Max(elements, two)
        logarithm = Log(several)
        under = Mul(eight, logarithm)
        root = Sqrt(under)
        {result} = Div(numerator, root)
    """
