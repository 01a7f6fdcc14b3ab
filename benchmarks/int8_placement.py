"""int8 where it pays: every placement that is tried of some networks, with its accuracy and its time.

    PYTHONPATH=.:benchmarks python benchmarks/int8_placement.py NAME ... [--runtime onnxruntime] [--wheels WHEELS]

Networks are those of `int8_rivals.py`; of other people's, WHEELS holds what they come from. Samples that calibrate and
samples that judge are apart. Times are processor times of one thread, in turns with int8 everywhere; intervals of 99 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx_ir as ir

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from rivals.networks import Network, networks

from normexport.onnx_export import InputSpec
from normexport.precision import Int8, Judged, reduce_precision
from normexport.precision.config import PLACEMENTS
from normexport.precision.int8.placement import Placement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+", help="networks whose name is one of these")
    parser.add_argument("--runtime", choices=PLACEMENTS[1:], default=PLACEMENTS[1])
    parser.add_argument("--wheels", type=Path, default=Path("wheels"))
    options = parser.parse_args()
    print("| network | placement | time | SNR | |\n|---|---|---|---|---|")
    for network in networks():
        if network.name in options.names:
            print(rows(network.name, placed(network, options.runtime, options.wheels)), flush=True)
    return 0


def placed(network: Network, runtime: str, wheels: Path) -> Placement:
    """What `--placement` finds for a network, whatever its limits."""
    prepared = network.prepare(wheels)
    (name, samples), *_ = prepared.calibration.items()
    config = Int8(calibration=list(samples), placement=runtime, min_snr=-1000.0)
    specs = (InputSpec(name, samples.shape[1:]),)
    found = reduce_precision(ir.from_proto(prepared.model), config, specs, judged=Judged(prepared.judged))
    assert found.precision.placement is not None
    return found.precision.placement


def rows(name: str, found: Placement) -> str:
    """A row for each placement, and one for float32."""
    lines = []
    for index, point in enumerate(found.points):
        words = f"{len(point.excluded)} modules in float32" if point.excluded else "int8 everywhere"
        time = f"{point.ratio:.2f} ({point.low:.2f} to {point.high:.2f})" if index else "1"
        lines.append(f"| {name} | {words} | {time} | {point.snr_db:.1f} dB | {'kept' * (index == found.chosen)} |")
    return "\n".join([*lines, f"| {name} | float32 | {found.float32:.2f} | | |"])


if __name__ == "__main__":
    sys.exit(main())
