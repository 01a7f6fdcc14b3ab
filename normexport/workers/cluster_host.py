"""The process in which a cluster of this machine lives: says its address, and ends with whoever started it.

python -m normexport.workers.cluster_host SECONDS [CORES]    # one line of JSON: {"address": ...} or {"error": ...}
python -m normexport.workers.cluster_host SECONDS ADDRESS    # joins the cluster there instead, and says the same

It loads nothing but Ray. Whoever starts it holds its standard input; the cluster ends when that is closed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from typing import Any


def main(seconds: float, cores: int | None, address: str = "") -> None:
    """Start or join a cluster within so many seconds, or end: Ray may wait for what has crashed, with Python's lock."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        answer, sys.stdout = sys.stdout, nowhere
        # "local": a cluster of its own, whatever RAY_ADDRESS or a cluster of this machine says.
        how: dict[str, Any] = {"address": "local", "num_cpus": cores, "include_dashboard": False}
        try:
            import ray

            ray.init(**({"address": address} if address else how), logging_level="ERROR", log_to_driver=False)
            told = {"address": address or ray.get_runtime_context().gcs_address}
        except Exception as error:  # of a node that does not start in time it is no class of its own
            told = {"error": f"{type(error).__name__}: {error}"}
        faulthandler.cancel_dump_traceback_later()
        answer.write(json.dumps(told) + "\n")
        answer.flush()
        sys.stdin.read()
        if "address" in told:
            ray.shutdown()


if __name__ == "__main__":
    given = sys.argv[2] if len(sys.argv) > 2 else ""
    main(float(sys.argv[1]), *((int(given), "") if given.isdigit() else (None, given)))
