"""Nodes of Ray on this machine, for tests; on a busy one they are started anew: Ray gives a node half a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_TRIES = 4


@contextmanager
def two_nodes(**node: Any) -> Iterator[Any]:
    """A cluster that this process has joined; it ends with the block."""
    with _joined(({**NODE, **node}, {**NODE, **node})) as made:
        yield made


@contextmanager
def node_without_disk() -> Iterator[Any]:
    """One node, whose object store may write nothing to disk."""
    with _joined(({**NODE, "_system_config": {"local_fs_capacity_threshold": 0.001}},)) as made:
        yield made


@contextmanager
def _joined(nodes: Sequence[dict[str, Any]]) -> Iterator[Any]:
    made = _started(nodes, _TRIES)
    ray: Any = import_module("ray")
    try:
        ray.init(address=made.address, logging_level=logging.ERROR, log_to_driver=False)  # once: its workers stay
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def _started(nodes: Sequence[dict[str, Any]], tries: int) -> Any:
    cluster_utils: Any = import_module("ray.cluster_utils")
    made = cluster_utils.Cluster()
    try:
        made.add_node(**nodes[0], include_dashboard=False)
        for node in nodes[1:]:
            made.add_node(**node)
        made.wait_for_nodes()
    except Exception:  # of a node that does not start in time it is no class of its own
        made.shutdown()
        if tries == 1:
            raise
        return _started(nodes, tries - 1)
    return made
