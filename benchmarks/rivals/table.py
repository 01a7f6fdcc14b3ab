"""The tables of `int8_rivals.py`, from the files of results that it leaves."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

TOOLS = {"ort": "ONNX Runtime", "nncf": "NNCF", "modelopt": "ModelOpt", "quark": "Quark"}
OURS = ("ours norms", "ours none", "ours standard", "ours high")
BEHIND = 0.5  # dB below the best rival, beyond which a network is named
Rows = dict[str, dict[str, Any]]


def level(row: dict[str, Any] | None) -> float | None:
    """The SNR of the worst output; None where there is none."""
    ratios = (row or {}).get("snr_db")
    return min(ratios) if ratios and "failed" not in (row or {}) else None


def best(rows: Rows, prefix: str) -> str | None:
    """The candidate of a tool with the highest SNR."""
    known = [(found, name) for name, row in rows.items()
             if name.startswith(prefix) and (found := level(row)) is not None]  # fmt: skip
    return max(known)[1] if known else None


def tables(out: Path) -> str:
    """Every network: the best of each rival beside ours; then what each candidate took, and ours against the best."""
    found: dict[str, Rows] = {
        path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/results.json"))
    }
    return "\n\n".join([_quality(found), _lead(found), _by_margin(found), _costs(found), _failures(found)])


def _quality(found: dict[str, Rows]) -> str:
    lines = [f"| network | {' | '.join([*TOOLS.values(), *OURS])} |", "|---" * (1 + len(TOOLS) + len(OURS)) + "|"]
    for name, rows in found.items():
        cells = [_cell(rows, best(rows, f"{prefix} ")) for prefix in TOOLS]
        cells += [_cell(rows, each if each in rows and level(rows[each]) is not None else None) for each in OURS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: Rows, name: str | None) -> str:
    if name is None:
        return ""
    row = rows[name]
    parts = [f"{level(row):.1f}"]
    parts += [f"{row['agreement']:.1f} %"] if row.get("agreement") is not None else []
    parts += [name.partition(" ")[2]] if not name.startswith("ours") else []
    return ", ".join(parts)


def _lead(found: dict[str, Rows]) -> str:
    """Each of ours less the best rival, in dB of SNR; the last line takes the better of the two with samples."""
    ways = {**{name: (name,) for name in OURS}, "the better of ours standard and ours high": OURS[2:]}
    lines = []
    for words, names in ways.items():
        leads = {network: lead for network, rows in found.items() if (lead := _leads(rows, names)) is not None}
        if leads:
            worst = min(leads, key=leads.__getitem__)
            lines.append(f"{words} less the best rival: median {statistics.median(leads.values()):+.1f} dB, "
                         f"least {leads[worst]:+.1f} dB ({worst}), {len(leads)} networks; "
                         f"below by more than {BEHIND} dB: {_behind(leads)}")  # fmt: skip
    return "\n".join(lines)


def _leads(rows: Rows, names: tuple[str, ...]) -> float | None:
    theirs = [known for name, row in rows.items() if not name.startswith("ours") and (known := level(row)) is not None]
    own = [known for name in names if (known := level(rows.get(name))) is not None]
    return max(own) - max(theirs) if theirs and own else None


def _behind(leads: dict[str, float]) -> str:
    return ", ".join(f"{name} {lead:+.1f}" for name, lead in leads.items() if lead < -BEHIND) or "none"


def _by_margin(found: dict[str, Rows]) -> str:
    """How many decisions of each candidate are float32's, by the margin that these have there."""
    known = {(network, name): row["by_margin"] for network, rows in found.items() for name, row in rows.items()
             if row.get("by_margin") and "failed" not in row}  # fmt: skip
    if not known:
        return ""
    least = [f"margin {low:g} and more" for low, _, _ in next(iter(known.values()))]
    lines = [f"| network | candidate | {' | '.join(least)} |", "|---" * (2 + len(least)) + "|"]
    for (network, name), margins in known.items():
        lines.append(f"| {network} | {name} | {' | '.join(f'{alike} of {count}' for _, count, alike in margins)} |")
    return "\n".join(lines)


def _costs(found: dict[str, Rows]) -> str:
    lines = [
        "| network | candidate | SNR dB | agreement % | kB | int8 layers | ORT | OpenVINO | processor s | MB |",
        "|---" * 10 + "|",
    ]
    for name, rows in found.items():
        for candidate, row in rows.items():
            if "failed" in row:
                continue
            same = "" if row.get("agreement") is None else f"{row['agreement']:.1f}"
            ratios = " / ".join(f"{each:.1f}" for each in row["snr_db"])
            speeds = [f"{row[key]:.2f}" if isinstance(row.get(key), float) else "" for key in ("ort", "openvino")]
            layers = "{} of {}".format(*row["layers"])
            took = [f"{row[key]:.0f}" for key in ("processor_seconds", "megabytes")]
            cells = [name, candidate, ratios, same, f"{row['bytes'] / 1000:.0f}", layers, *speeds, *took]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _failures(found: dict[str, Rows]) -> str:
    return "\n".join(f"- {name}, {candidate}: {row['failed']}" for name, rows in found.items()
                     for candidate, row in rows.items() if "failed" in row)  # fmt: skip
