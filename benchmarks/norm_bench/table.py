"""The printed table: one line per case and number of threads, times as ratios to the copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_COLUMNS = ("native", "native p10", "in ORT", "body", "eager", "compile", "batch_norm")


def print_table(rows: Iterable[Mapping[str, Any]], *, heading: bool) -> None:
    if heading:
        names = "".join(f"{name:>11}" for name in _COLUMNS)
        print(f"{'':50}{'copy':>9}{names}{'to fp32 copy':>13}")
    for row in rows:
        copy = row["seconds"]["copy"]["median"]
        ratios = {name: each["median"] / copy for name, each in row["seconds"].items()}
        ratios["native p10"] = row["seconds"]["native"]["p10"] / row["seconds"]["copy"]["p10"]
        cells = "".join(f"{ratios[name]:11.2f}" if name in ratios else f"{'-':>11}" for name in _COLUMNS)
        single = row["seconds"].get("copy of float32")
        last = f"{row['seconds']['native']['median'] / single['median']:13.2f}" if single else ""
        place = f"{row['threads']} thr" if row["threads"] else row["device"]
        label = f"{row['op']:18} {row['dtype']:9} {'x'.join(map(str, row['shape'])):14} {row.get('layout', ''):7}"
        print(f"{label[:50]:50}{copy * 1e6:7.0f}us{cells}{last}  {place}", flush=True)
