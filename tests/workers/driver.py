"""A calibration whose driver is killed after some parts: driver.py STATE WHERE PARTS."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from normexport.precision.int8.gather import gather
from normexport.precision.numbered import numbered, samples_by_number
from normexport.workers import Where
from tests.precision import nets
from tests.workers.killed import Samples


def main() -> None:
    state, where, parts = Path(sys.argv[1]), Where.of(sys.argv[2]), int(sys.argv[3])
    model, _ = nets.folded(nets.live)
    left = [parts]

    def end(seen: int) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    data = numbered(samples_by_number(Samples(state.with_suffix(".mark")), (nets.SPEC,)), 3)
    gather(model, data, where, checkpoint=state, on_batch=end)


if __name__ == "__main__":
    main()
