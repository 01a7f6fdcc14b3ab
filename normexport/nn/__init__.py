"""Torch modules that train with these norms, and the custom operators they are built on.

Importing this package registers `torch.ops.normexport.*`.
"""

from normexport.nn import ops
from normexport.nn.base import Norm
from normexport.nn.batch import (
    L1BatchNorm1d,
    L1BatchNorm2d,
    L1BatchNorm3d,
    L2BatchNorm1d,
    L2BatchNorm2d,
    L2BatchNorm3d,
    LinfBatchNorm1d,
    LinfBatchNorm2d,
    LinfBatchNorm3d,
    RangeBatchNorm1d,
    RangeBatchNorm2d,
    RangeBatchNorm3d,
    TopKBatchNorm1d,
    TopKBatchNorm2d,
    TopKBatchNorm3d,
)
from normexport.nn.convert import convert_norms
from normexport.nn.instance import (
    L1InstanceNorm1d,
    L1InstanceNorm2d,
    L1InstanceNorm3d,
    L2InstanceNorm1d,
    L2InstanceNorm2d,
    L2InstanceNorm3d,
    LinfInstanceNorm1d,
    LinfInstanceNorm2d,
    LinfInstanceNorm3d,
    RangeInstanceNorm1d,
    RangeInstanceNorm2d,
    RangeInstanceNorm3d,
    TopKInstanceNorm1d,
    TopKInstanceNorm2d,
    TopKInstanceNorm3d,
)
from normexport.nn.native import use_native_kernels
from normexport.nn.running import RunningNorm
from normexport.nn.weight_norm import BoundedWeightNorm, bounded_weight_norm, remove_bounded_weight_norm

__all__ = [
    "BoundedWeightNorm",
    "L1BatchNorm1d",
    "L1BatchNorm2d",
    "L1BatchNorm3d",
    "L1InstanceNorm1d",
    "L1InstanceNorm2d",
    "L1InstanceNorm3d",
    "L2BatchNorm1d",
    "L2BatchNorm2d",
    "L2BatchNorm3d",
    "L2InstanceNorm1d",
    "L2InstanceNorm2d",
    "L2InstanceNorm3d",
    "LinfBatchNorm1d",
    "LinfBatchNorm2d",
    "LinfBatchNorm3d",
    "LinfInstanceNorm1d",
    "LinfInstanceNorm2d",
    "LinfInstanceNorm3d",
    "Norm",
    "RangeBatchNorm1d",
    "RangeBatchNorm2d",
    "RangeBatchNorm3d",
    "RangeInstanceNorm1d",
    "RangeInstanceNorm2d",
    "RangeInstanceNorm3d",
    "RunningNorm",
    "TopKBatchNorm1d",
    "TopKBatchNorm2d",
    "TopKBatchNorm3d",
    "TopKInstanceNorm1d",
    "TopKInstanceNorm2d",
    "TopKInstanceNorm3d",
    "bounded_weight_norm",
    "convert_norms",
    "ops",
    "remove_bounded_weight_norm",
    "use_native_kernels",
]
