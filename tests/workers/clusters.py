"""Two nodes of Ray on this machine, for tests; on a busy one they are started anew: Ray gives a node half a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_TRIES = 4


@contextmanager
def two_nodes(**node: Any) -> Iterator[Any]:
    """A cluster that this process has joined; it ends with the block."""
    made = _started({**NODE, **node}, _TRIES)
    ray: Any = import_module("ray")
    try:
        ray.init(address=made.address, logging_level=logging.ERROR, log_to_driver=False)  # once: its workers stay
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def _started(node: dict[str, Any], tries: int) -> Any:
    cluster_utils: Any = import_module("ray.cluster_utils")
    made = cluster_utils.Cluster()
    try:
        made.add_node(**node, include_dashboard=False)
        made.add_node(**node)
        made.wait_for_nodes()
    except Exception:  # of a node that does not start in time it is no class of its own
        made.shutdown()
        if tries == 1:
            raise
        return _started(node, tries - 1)
    return made
