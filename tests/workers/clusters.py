"""Two nodes of Ray on this machine, for tests; what of Ray is slow on a busy machine is waited for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@contextmanager
def two_nodes(**node: Any) -> Iterator[Any]:
    """A cluster that this process has joined; it ends with the block."""
    ray: Any = import_module("ray")
    cluster_utils: Any = import_module("ray.cluster_utils")

    made = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, **node, "include_dashboard": False})
    try:
        made.add_node(**{**NODE, **node})
        made.wait_for_nodes()
        ray.init(address=made.address, logging_level=logging.ERROR, log_to_driver=False)  # once: its workers stay
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
