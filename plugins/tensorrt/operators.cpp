#include "operators.h"

#include "normexport/kernels.h"

namespace nxtrt {

const Operator kOperatorTable[kOperators] = {
    {"L1BatchNorm", NX_L1, false, false},         {"QL1BatchNorm", NX_L1, false, true},
    {"L1InstanceNorm", NX_L1, true, false},       {"QL1InstanceNorm", NX_L1, true, true},
    {"LinfBatchNorm", NX_LINF, false, false},     {"QLinfBatchNorm", NX_LINF, false, true},
    {"LinfInstanceNorm", NX_LINF, true, false},   {"QLinfInstanceNorm", NX_LINF, true, true},
    {"TopKBatchNorm", NX_TOPK, false, false},     {"QTopKBatchNorm", NX_TOPK, false, true},
    {"TopKInstanceNorm", NX_TOPK, true, false},   {"QTopKInstanceNorm", NX_TOPK, true, true},
    {"RangeBatchNorm", NX_RANGE, false, false},   {"QRangeBatchNorm", NX_RANGE, false, true},
    {"RangeInstanceNorm", NX_RANGE, true, false}, {"QRangeInstanceNorm", NX_RANGE, true, true},
    {"L2BatchNorm", NX_L2, false, false},         {"QL2BatchNorm", NX_L2, false, true},
    {"L2InstanceNorm", NX_L2, true, false},       {"QL2InstanceNorm", NX_L2, true, true},
};

}  // namespace nxtrt
