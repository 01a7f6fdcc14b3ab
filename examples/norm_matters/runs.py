"""Runs the cases of a figure, several at a time, and keeps what each gave, so that an interrupted figure goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from normexport.io.atomic import write_text

RESULTS = Path(__file__).with_name("results")

Case = dict[str, Any]
Result = dict[str, Any]


def read(figure: str, folder: Path = RESULTS) -> list[tuple[Case, Result]]:
    """What `run_cases` kept of a figure; nothing where it has not run."""
    path = folder / f"{figure}.json"
    if not path.exists():
        return []
    return [(entry["case"], entry["result"]) for entry in json.loads(path.read_text())["runs"]]


def run_cases(
    figure: str,
    cases: Sequence[Case],
    measure: Callable[[Case], Result],
    *,
    jobs: int = 1,
    folder: Path = RESULTS,
    tell: Callable[[str], object] = print,
) -> list[tuple[Case, Result]]:
    """`measure` every case that has no result yet; returns all of them, in the order of `cases`.

    Args:
        measure: a function of a module, run in processes of one thread each.
        jobs: how many at a time.
        folder: of `{figure}.json`, which is written anew after every case.
        tell: is called with a line after every case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = {_key(case): result for case, result in read(figure, folder)}
    missing = [case for case in cases if _key(case) not in known]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        futures = {pool.submit(measure, case): case for case in missing}
        for done, future in enumerate(as_completed(futures), 1):
            case = futures[future]
            known[_key(case)] = future.result()
            _write(folder / f"{figure}.json", [(each, known[_key(each)]) for each in cases if _key(each) in known])
            tell(f"{figure} {done}/{len(missing)}: {' '.join(f'{name}={value}' for name, value in case.items())}")
    return [(case, known[_key(case)]) for case in cases]


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def _key(case: Case) -> str:
    return json.dumps(case, sort_keys=True)


def _write(path: Path, runs: Sequence[tuple[Case, Result]]) -> None:
    """A run on each line, so that a change of one is a change of a line."""
    lines = ",\n".join(json.dumps({"case": case, "result": result}) for case, result in runs)
    write_text(path, f'{{"torch": {json.dumps(torch.__version__)}, "runs": [\n{lines}\n]}}\n')
