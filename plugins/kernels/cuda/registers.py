"""Registers, spills and local memory of the CUDA kernels, per kernel and architecture, from what ptxas says.

registers.py compile FOLDER nvcc ...   runs the compiler and keeps its figures in FOLDER, one file per object
registers.py table FOLDER              prints the table; fails where a hot kernel spills or uses local memory
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

#: Kernels of one small block per statistic that select among few values: they may spill.
COLD = ("bound_topk", "finish_topk", "int_finish_topk")

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_TYPES = {"f": "float32", "6__half": "float16", "13__nv_bfloat16": "bfloat16"}


def readable(mangled: str) -> str:
    """_ZN2nx12sum_extremesI6__halfLi8ELb1EEEv... -> sum_extremes<float16, 8, true>."""
    found = re.match(r"_ZN2nx(\d+)", mangled)
    if not found:
        return mangled
    start = found.end()
    name, rest = mangled[start : start + int(found[1])], mangled[start + int(found[1]) :]
    arguments = []
    if rest.startswith("I"):
        rest = rest[1:]
        while not rest.startswith("E"):
            literal = re.match(r"L(?:i(\d+)|b([01])|N\w+?E(\d+))E", rest)
            kind = next((t for t in _TYPES if rest.startswith(t)), None)
            if literal:
                arguments.append(literal[1] or literal[3] or ("true" if literal[2] == "1" else "false"))
                rest = rest[literal.end() :]
            elif kind:
                arguments.append(_TYPES[kind])
                rest = rest[len(kind) :]
            else:
                return mangled
    return f"{name}<{', '.join(arguments)}>" if arguments else name


def figures(report: str) -> list[dict[str, object]]:
    """ptxas -v -> one record per kernel and architecture: kernel, arch, registers, stack, spills (bytes)."""
    records: list[dict[str, object]] = []
    for piece in re.split(r"(?=Compiling entry function)", report):
        entry, stack, used = _ENTRY.search(piece), _STACK.search(piece), _USED.search(piece)
        if entry and stack and used:
            records.append(
                {
                    "kernel": readable(entry[1]),
                    "arch": entry[2],
                    "registers": int(used[1]),
                    "stack": int(stack[1]),
                    "spills": int(stack[2]) + int(stack[3]),
                }
            )
    return records


def compile_and_keep(folder: Path, command: list[str]) -> int:
    """Runs nvcc, passes on what it says apart from the figures."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    said = [line for line in done.stderr.splitlines() if not re.match(r"ptxas info|\s+\d+ bytes stack frame", line)]
    if said:
        sys.stderr.write("\n".join(said) + "\n")
    if done.returncode == 0 and "-o" in command:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / (Path(command[command.index("-o") + 1]).name + ".json")
        target.write_text(json.dumps(figures(done.stderr), indent=1))
    return done.returncode


def table(folder: Path) -> int:
    """Prints registers per kernel (rows) and architecture (columns), spills and local memory beside them."""
    records = [record for path in sorted(folder.glob("*.json")) for record in json.loads(path.read_text())]
    archs = sorted({record["arch"] for record in records}, key=int)
    kernels = sorted({record["kernel"] for record in records})
    cells = {(record["kernel"], record["arch"]): record for record in records}
    width = max((len(kernel) for kernel in kernels), default=0)
    print(" " * width + "".join(f"{'sm_' + arch:>10}" for arch in archs))
    bad = []
    for kernel in kernels:
        row = kernel.ljust(width)
        for arch in archs:
            record = cells.get((kernel, arch))
            text = "-" if record is None else str(record["registers"])
            if record and (record["spills"] or record["stack"]):
                text += f"/{max(record['spills'], record['stack'])}B"
                if not kernel.startswith(COLD):
                    bad.append(f"{kernel} on sm_{arch}: {record['spills']} bytes spilled, {record['stack']} of stack")
            row += f"{text:>10}"
        print(row)
    print(f"{len(records)} kernels of {len(archs)} architectures; registers per thread, /bytes of local memory")
    for line in bad:
        print(f"error: a hot kernel uses local memory: {line}", file=sys.stderr)
    return 1 if bad or not records else 0


def main(arguments: list[str]) -> int:
    """The command line, see the top."""
    if len(arguments) > 2 and arguments[0] == "compile":
        return compile_and_keep(Path(arguments[1]), arguments[2:])
    if len(arguments) == 2 and arguments[0] == "table":
        return table(Path(arguments[1]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
