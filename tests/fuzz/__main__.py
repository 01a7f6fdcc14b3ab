"""Fuzz the command line with mutated files of every format that it opens; nothing may run code, crash, hang or be left.

    python -m tests.fuzz --format pt2 --count 10000 --seed 0
    python -m tests.fuzz --case pt2-0-123           (make and run one case again)
    python -m tests.fuzz --replay build/fuzz/pt2-0-123   (run a saved failure again)

Failures are saved below build/fuzz/, each with its files, its command and what was wrong. The last lines are a table by
format and the failures grouped by cause; the exit code is 1 where there is one
(and 2 where the harness itself failed).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in (".", "tools")]
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command line sets it

from tests.fuzz import campaign, commands, formats
from tests.fuzz.campaign import Outcome

FOLDER = ROOT / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--format", action="append", metavar="F[=COUNT]", help="repeatable; all by default")
    parser.add_argument("--count", type=int, default=1000, help="cases of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=1, choices=(1, 2))
    parser.add_argument("--case", help="FORMAT-SEED-NUMBER: make this one case, run it, and keep its files")
    parser.add_argument("--replay", type=Path, help="folder of a saved failure")
    parser.add_argument("--debug", action="store_true", help="with --case and --replay: show the traceback")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where failures and outcomes are written")
    args = parser.parse_args()
    if args.case or args.replay:
        return _one(args.case, args.replay, args.debug, args.folder)
    counts = {}
    for name, _, count in (word.partition("=") for word in args.format or formats.FORMATS):
        if name not in formats.FORMATS:
            parser.error(f"{name} is none of {', '.join(formats.FORMATS)}")
        counts[name] = int(count or args.count)
    commands.warm_up(set(counts))
    outcomes: list[Outcome] = []
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, count in counts.items():
        file = args.folder / f"{name}-{args.seed}.jsonl"
        outcomes += _many(name, args.seed, range(args.start, args.start + count), args.workers, file)
        print(campaign.table([outcome for outcome in outcomes if outcome.format == name]), flush=True)
    failed = campaign.causes(outcomes)
    print("\n" + campaign.table(outcomes) + ("\n\n" + failed if failed else ""))
    return 1 if failed else 0


def _many(name: str, seed: int, numbers: range, workers: int, file: Path) -> list[Outcome]:
    """All cases of one format, by that many processes; each writes its outcomes as lines of JSON."""
    parts = [file.with_suffix(f".{worker}.jsonl") for worker in range(workers)]
    children = []
    for worker, part in enumerate(parts):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _work(name, seed, numbers[worker::workers], part)
                code = 0
            except BaseException:  # told, and the exit code is 1: this is no place to go on from
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
        children.append(child)
    ended = [os.waitpid(child, 0)[1] for child in children]
    if any(ended):
        sys.stderr.write(f"{name}: the harness itself failed\n")
        sys.exit(2)
    lines = [line for part in parts for line in part.read_text().splitlines()]
    for part in parts:
        part.unlink()
    file.write_text("\n".join(lines) + "\n")
    found = [Outcome(**json.loads(line)) for line in lines]
    return sorted(found, key=lambda outcome: outcome.number)


def _work(name: str, seed: int, numbers: range, part: Path) -> None:
    formats.case(name, seed, 0)  # makes the honest files
    gc.freeze()  # else each child's collector touches, and so copies, every page
    with part.open("w") as file:
        for done, outcome in enumerate(campaign.run_cases(name, seed, numbers, commands.command, part.parent)):
            file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
            file.flush()
            if outcome.reasons:
                print(f"{name}-{seed}-{outcome.number}: {'; '.join(outcome.reasons)}: {outcome.line[:200]}", flush=True)
            elif done % 500 == 499:
                print(f"{name}: {done + 1} cases", flush=True)


def _one(name: str | None, folder: Path | None, debug: bool, into: Path) -> int:
    """Run one case and tell everything about it."""
    if folder is None:
        assert name is not None
        format, seed, number = name.rsplit("-", 2)
        each = formats.case(format, int(seed), int(number))
    else:
        each = campaign.saved_case(folder)
    words = (*each.words, "--debug") if debug and each.words[0] not in commands.LIBRARY else each.words
    commands.warm_up({"pt2"} if "pt2" in "".join(each.files) else set())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        seen, reasons = campaign.run_case(dataclasses.replace(each, words=words), commands.command, Path(work))
    if name is not None:
        kept = into / name
        kept.mkdir(parents=True, exist_ok=True)
        campaign.save(each, campaign.outcome_of("case", 0, each, seen, reasons), seen, kept)
        print(f"files: {kept}/case")
    print("command: normexport", *words)
    print("changes:", *each.steps, sep="\n  ")
    print(seen.stdout.decode(errors="replace")[-3000:] + seen.stderr.decode(errors="replace")[-12000:])
    megabytes = seen.memory / 2**20
    print(f"exit {seen.exit_code}, signal {seen.signal}, {seen.seconds:.2f} s, {megabytes:.0f} MB more than before")
    print("broken:", *(reasons or ["nothing"]), sep="\n  ")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
