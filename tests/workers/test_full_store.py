"""Real Ray, one node: an object store that fills up in the middle is a line, and what was done is gone on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.precision.int8.gather import gather
from normexport.precision.int8.state_files import read_state
from normexport.precision.numbered import numbered, samples_by_number
from normexport.workers import Where
from tests.precision import nets
from tests.workers.clusters import node_without_disk
from tests.workers.killed import Samples

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'normexport[ray]'")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on() -> Iterator[Where]:
    with node_without_disk() as made:
        yield Where(True, made.address)


def test_what_was_done_before_a_store_was_full_is_gone_on_with_to_the_same_bytes(on: Where, tmp_path: Path) -> None:
    model, state = nets.folded(nets.live)[0], tmp_path / "state.json"
    data = numbered(samples_by_number(Samples(tmp_path / "x", seconds=0.1), (nets.SPEC,)), 3)
    held: list[Any] = []

    def fill(seen: int) -> None:
        """Keep what no room is left beside, once the first state is written."""
        for size in (1 << 20, 1 << 16, 1 << 12):
            with contextlib.suppress(ray.exceptions.RayError):
                while len(held) < 1000:
                    held.append(ray.put(np.zeros(size, np.uint8)))

    with pytest.raises(UsageError, match=r"has a node whose object store is full, and its disk too .*by --resume"):
        gather(model, data, on, checkpoint=state, on_batch=fill)
    assert 60 < len(held) < 1000
    begun = read_state(state)
    assert 0 < len(begun.samples) < 24
    held.clear()
    assert gather(model, data, on, begun=begun, checkpoint=state).text() == gather(model, data).text()


def test_a_job_that_no_store_has_room_for_is_a_line(on: Where) -> None:
    from normexport.workers import run_in_order
    from tests.workers.test_where import open_squares

    with pytest.raises(UsageError, match="has a node whose object store is full"):
        list(run_in_order(on, open_squares, np.zeros(200 << 20, np.uint8), [1]))
