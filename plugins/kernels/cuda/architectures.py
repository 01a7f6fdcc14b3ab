"""The CUDA architectures that are built for where none is named, from what a compiler says it knows.

architectures.py NVCC   prints them as CMAKE_CUDA_ARCHITECTURES takes them: 75-real;80-real;...;90;120-real
"""

from __future__ import annotations

import re
import subprocess
import sys

#: Machine code for each that the compiler knows. Code of 8.6 runs on 8.8 too, of 12.0 on 12.1.
WANTED = (75, 80, 86, 87, 89, 90, 100, 103, 110, 120)
#: Its PTX is kept as well, which a driver compiles for any later GPU: for those that the compiler does not know yet.
PTX = 90


def known_to(compiler: str) -> list[int]:
    """What `nvcc --list-gpu-arch` lists, in rising order.

    Raises:
        OSError: there is no such program.
        ValueError: it lists nothing; the message is what it says instead.
    """
    done = subprocess.run([compiler, "--list-gpu-arch"], capture_output=True, text=True, check=False)
    found = sorted({int(number) for number in re.findall(r"compute_(\d+)\b", done.stdout)})
    if not found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(said[-1] if said else "nothing at all")
    return found


def default(known: list[int]) -> str:
    """Those of `WANTED` that are known, with the PTX of 90 or, where that is unknown, of the newest."""
    taken = [number for number in WANTED if number in known] or known[-1:]
    portable = PTX if PTX in taken else taken[-1]
    return ";".join(str(number) if number == portable else f"{number}-real" for number in taken)


def main(arguments: list[str]) -> int:
    """The command line, see the top."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(default(known_to(arguments[0])))
    except (OSError, ValueError) as error:
        print(f"error: {arguments[0]} does not list its architectures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
