"""Two nodes of Ray on this machine, for tests; what of Ray is slow on a busy machine is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: A node may take a minute to start where everything runs at once.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@contextmanager
def two_nodes(**node: Any) -> Iterator[Any]:
    """A cluster that this process has joined; it ends with the block."""
    import ray
    from ray import cluster_utils

    made = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, **node, "include_dashboard": False})
    try:
        made.add_node(**{**NODE, **node})
        made.wait_for_nodes()
        ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)  # once: its workers stay
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
