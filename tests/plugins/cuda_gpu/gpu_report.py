"""The report of `make gpu-check`: one Markdown file, failures first."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.plugins.cuda_gpu.gpu_run import Family


class Report:
    """Collects what each step says. bad: how many steps failed."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = {**facts, "system": platform.platform()}
        self._steps: list[tuple[str, str, str]] = []
        self._texts: list[tuple[str, str]] = []
        self.bad = 0

    def passed(self, step: str, words: str) -> None:
        self._step(step, "passed", words)

    def skipped(self, step: str, words: str) -> None:
        self._step(step, "skipped", words)

    def failed(self, step: str, words: str) -> None:
        self.bad += 1
        self._step(step, "FAILED", words.strip().splitlines()[0] if words.strip() else "")
        self.text(f"{step}: what failed", words)

    def text(self, title: str, words: str) -> None:
        """A block of preformatted text."""
        if words.strip():
            self._texts.append((title, words.rstrip()))

    def families(self, name: str, families: Mapping[str, Family], seconds: float) -> None:
        """The outcome of `gpu_run.judge`."""
        failures = [line for family in families.values() for line in family.failures]
        count = sum(family.cases for family in families.values())
        worst = max((family.worst for family in families.values()), default=0.0)
        words = (
            f"{count} cases, each twice with the same bits, in {seconds:.0f} s; largest error {worst:.2f} of allowed"
        )
        if failures:
            self.failed(name, f"{len(failures)} of {count} cases\n" + "\n".join(failures[:40]))
        else:
            self.passed(name, words)
        rows = [f"{key:24}{each.cases:6}{each.worst:8.2f}{len(each.failures):6}" for key, each in families.items()]
        self.text(f"{name}: cases, largest error over allowed, failures", "\n".join(rows))

    def bandwidth(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Share of the copy's bandwidth, one line a case."""
        lines = [
            f"{row['op']:20}{row['dtype']:10}{'x'.join(map(str, row['shape'])):16}{row['layout']:8}"
            f"{row['fraction']:8.2f} of "
            f"{row['copy_bytes_per_second'] / 1e9:7.0f} GB/s"
            for row in rows
        ]
        self.text("Time of a copy over time of the norm, and the copy's bandwidth", "\n".join(lines))

    def write(self, path: Path) -> None:
        lines = ["# CUDA kernels on a device", ""]
        lines += [f"- {name}: {value}" for name, value in self._facts.items()]
        lines += ["", "| step | result | |", "|---|---|---|"]
        lines += [f"| {step} | {result} | {words} |" for step, result, words in self._steps]
        for title, words in self._texts:
            lines += ["", f"## {title}", "", "```", words, "```"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    def _step(self, step: str, result: str, words: str) -> None:
        self._steps.append((step, result, words))
        print(f"{result:8} {step}: {words}", flush=True)
