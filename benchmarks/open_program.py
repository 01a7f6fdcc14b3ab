"""What it costs to open an exported program that nobody vouches for, beside `torch.export.load`. ResNet-50, L1 norms.

    PYTHONPATH=. python benchmarks/open_program.py [--rounds 7]

Every opening is a process of its own, the two in turn. Both have imported all that opening needs and have opened a
small program before the clock starts. Memory is the peak above what the process had then, over the size of the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATHS = f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
TIME_TARGET, MEMORY_TARGET = 1.3, 2.2

PREPARE = """
import torch
from tests.models.resnet import randomise_statistics, resnet50
from normexport import nn as nxn
torch.manual_seed(0)
model = randomise_statistics(resnet50(nxn.L1BatchNorm2d)).eval()
small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), nxn.L1BatchNorm2d(4)).eval()
for name, net in (("model", model), ("small", small)):
    dims = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.export.save(torch.export.export(net, (torch.randn(2, 3, 224, 224),), dynamic_shapes=(dims,)),
                      FOLDER + f"/{name}.pt2")
"""

OPEN = """
import json, logging, resource, time
import torch
from pathlib import Path
import normexport.nn
from normexport.checkpoint.pt2 import open_program
logging.disable(logging.WARNING)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
opens = {"ours": lambda path: open_program(Path(path), trust=False), "torch": torch.export.load}[HOW]
opens(FOLDER + "/small.pt2")
before, start = peak(), time.perf_counter()
program = opens(FOLDER + "/model.pt2")
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": peak() - before}))
"""


def run(script: str, **names: str) -> str:
    """The output of a script in a process of its own."""
    lines = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    done = subprocess.run([sys.executable, "-c", PATHS + lines + script], capture_output=True, text=True, check=True)
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        run(PREPARE, FOLDER=folder)
        size = (Path(folder) / "model.pt2").stat().st_size
        found: dict[str, list[dict[str, float]]] = {"ours": [], "torch": []}
        for _ in range(rounds):
            for how, results in found.items():
                results.append(json.loads(run(OPEN, FOLDER=folder, HOW=how)))
    seconds = {how: statistics.median(each["seconds"] for each in results) for how, results in found.items()}
    memory = {how: statistics.median(each["bytes"] for each in results) / size for how, results in found.items()}
    ratio = statistics.median(
        ours["seconds"] / bare["seconds"] for ours, bare in zip(found["ours"], found["torch"], strict=True)
    )
    print(f"file {size / 2**20:.0f} MiB, medians of {rounds} rounds")
    for how in found:
        print(f"{how:6} {seconds[how]:6.2f} s, memory {memory[how]:.2f} of the file")
    ok = ratio <= TIME_TARGET and memory["ours"] <= MEMORY_TARGET
    print(
        f"time ratio {ratio:.2f} (at most {TIME_TARGET}), memory {memory['ours']:.2f} (at most {MEMORY_TARGET}): ",
        end="",
    )
    print("met" if ok else "MISSED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
