"""Which machine and which versions gave the figures."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def machine(device: str) -> dict[str, object]:
    facts: dict[str, object] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts.update(gpu=properties.name, cuda=torch.version.cuda, sms=properties.multi_processor_count)
    else:
        import onnxruntime

        from normexport.plugins import kernels

        facts.update(onnxruntime=onnxruntime.__version__, target=kernels.load().target)
    return facts


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
