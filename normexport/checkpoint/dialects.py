"""The dialects: how public training code stores these norms, one row each.

Kind (which statistic was trained) and dialect (how it was stored) are separate, and names lie: `running_var`
holds a variance in one project, the average of 1/d in the next and the average of d in a third (d is the
denominator used in training). Recognition (`recognise.py`) goes by the set of keys, shapes and module version.
"""

from __future__ import annotations

from types import MappingProxyType

from normexport.checkpoint.dialect import (
    DIVISOR,
    DIVISOR_EPS,
    MULTIPLIER,
    NO_DIVISION,
    VARIANCE,
    Dialect,
)
from normexport.checkpoint.records import UNKNOWN
from normexport.errors import UsageError


def _set(*keys: str) -> frozenset[str]:
    return frozenset(keys)


_CONVNET_OBSERVER = tuple(f"quantize_input.{key}" for key in ("running_zero_point", "running_range", "num_measured"))

_ROWS = (
    # torch; files from before 0.4.1 have neither num_batches_tracked nor version 2 and look like convnet-lp.
    Dialect(
        name="batchnorm",
        source="torch BatchNorm",
        kind="batchnorm",
        reading=VARIANCE,
        stat="running_var",
        also=_set("num_batches_tracked"),
        version=2,
        initial=1.0,
    ),
    Dialect(
        name="normexport",
        source="normexport.nn batch norms",
        kind=UNKNOWN,
        reading=DIVISOR_EPS,
        stat="running_scale",
        also=_set("num_batches_tracked"),  # scripts that strip counters leave the keys of mean-bn-l1
        initial=1.0,
    ),
    Dialect(
        name="normexport-running",
        source="normexport.nn.RunningNorm",
        kind=UNKNOWN,
        reading=MULTIPLIER,
        stat="inv_scale",
        mean="mean",
    ),
    # norm_matters models/lp_norm.py (L1, Lp, Top-k: one layout); Alternative-Batch-Norm's MeanBN, an L1 norm.
    Dialect(
        name="lp-norm",
        source="norm_matters lp_norm and Alternative-Batch-Norm",
        kind=UNKNOWN,
        reading=MULTIPLIER,
        stat="running_var",
        keys=_set("mean", "scale"),
        gamma="scale",
        beta="mean",
    ),
    Dialect(
        name="ghost-topk",
        source="norm_matters GhostTopkBatchNorm2d",
        kind="topk",
        reading=MULTIPLIER,
        stat="running_var",
        keys=_set("meanTOPK", "mean", "scale"),
        gamma="scale",
        beta="mean",
    ),
    Dialect(
        name="convnet-ghost-topk",
        source="convNet.pytorch GhostTopkBatchNorm2d",
        kind="topk",
        reading=MULTIPLIER,
        stat="running_var",
        keys=_set("meanTOPK"),
    ),
    # norm_matters models/mean_bn.py, the layers its resnet.py uses.
    Dialect(
        name="mean-bn-l1",
        source="norm_matters mean_bn L1BatchNorm",
        kind="l1",
        reading=DIVISOR,
        stat="running_scale",
    ),
    Dialect(
        name="mean-bn",
        source="norm_matters mean_bn MeanBN",
        kind="mean",
        reading=NO_DIVISION,
        stat="running_mean",
        gamma="",
    ),
    Dialect(
        name="convnet-lp",
        source="convNet.pytorch lp_norm",
        kind=UNKNOWN,
        reading=MULTIPLIER,
        stat="running_var",
    ),
    # What people write for themselves: BatchNorm's names, and the average of the statistic under `running_var`.
    Dialect(
        name="own-divisor",
        source="own classes under the names of torch BatchNorm",
        kind=UNKNOWN,
        reading=DIVISOR_EPS,
        stat="running_var",
        also=_set("num_batches_tracked"),
        initial=1.0,
        inherits=True,
    ),
    # The two RangeBNs differ in keys only by what their input observer is called, and store reciprocals.
    Dialect(
        name="range-quantized",
        source="quantized.pytorch RangeBN",
        kind="range",
        reading=MULTIPLIER,
        stat="running_var",
        also=_set("quantize_input.running_min", "quantize_input.running_max"),
        quantised=True,
    ),
    Dialect(
        name="range-convnet",
        source="convNet.pytorch RangeBN",
        kind="range",
        reading=DIVISOR_EPS,
        stat="running_var",
        also=_set(*_CONVNET_OBSERVER),
        quantised=True,
    ),
    Dialect(
        name="elektronn3",
        source="elektronn3 L1BatchNorm",
        kind="l1",
        reading=DIVISOR,
        stat="running_var",
        keys=_set("gamma", "beta"),
        gamma="gamma",
        beta="beta",
    ),
    Dialect(
        name="running-mad",
        source="L1 norms with a running_mad and a scale buffer",
        kind="l1",
        reading=DIVISOR_EPS,
        stat="running_mad",
        keys=_set("scale"),
        also=_set("num_batches_tracked"),
        factor="scale",
        initial=1.0,
    ),
    Dialect(
        name="running-maxdev",
        source="Linf norms with a running_maxdev and a scale buffer",
        kind="linf",
        reading=DIVISOR_EPS,
        stat="running_maxdev",
        keys=_set("scale"),
        also=_set("num_batches_tracked"),
        factor="scale",
        initial=1.0,
    ),
)

DIALECTS: MappingProxyType[str, Dialect] = MappingProxyType({row.name: row for row in _ROWS})


def dialects() -> dict[str, str]:
    """Names for `--dialect`, each with its meaning in one line."""
    return {name: dialect.meaning for name, dialect in DIALECTS.items()}


def dialect_named(name: str) -> Dialect:
    """The dialect called `name`.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in DIALECTS:
        raise UsageError(f"--dialect {name}", "is not a dialect", f"choose one of {', '.join(DIALECTS)}")
    return DIALECTS[name]
