"""`synchronize_norms`: statistics of all processes that train a network together."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from normexport.nn.base import Norm
from normexport.norms import Scope

_M = TypeVar("_M", bound=nn.Module)


def synchronize_norms(model: _M, process_group: Any = None) -> _M:
    """Let every batch norm of this library train with the statistics of all processes, as torch.nn.SyncBatchNorm does.

    `model` is changed and returned. Each process then computes what one process computes that has the batches of all,
    one after the other in the order of ranks: y, the gradient of x and the running statistics; batches may differ in
    size, and a process may have none. Gradients of weight and bias are of the process's own batch, for
    DistributedDataParallel to combine. Sums add up for L1 and L2, the largest of all is L-infinity's, Top-k gathers k
    candidates of each process, and Range cuts the whole batch into its chunks.

    Evaluation, instance, group and layer norms need nothing of other processes and stay as they are; so does everything
    where torch.distributed is not initialised, or has one process. Under torch.compile such a norm is a graph break.

    Args:
        model: whose norms to synchronise; every process has the same.
        process_group: of torch.distributed, gloo or nccl; None is the default group, and can be pickled.
    """
    for module in model.modules():
        if isinstance(module, Norm) and module.scope is Scope.BATCH:
            module.is_synchronized, module.process_group = True, process_group
    return model
