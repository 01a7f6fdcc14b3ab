"""What is asked of the process that builds a plan, and which options shape one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from normexport.engine.config import EngineConfig
from normexport.engine.flavor import CURRENT, flavor
from normexport.engine.shapes import Profile


def request_of(
    plan: Path,
    timings: Path | None,
    config: EngineConfig,
    targets: Sequence[str],
    shapes: Sequence[Sequence[Profile]],
    embed: Sequence[str],
) -> dict[str, Any]:
    """What the child that builds is asked, as JSON.

    Args:
        plan, timings: the files that it writes.
        targets: GPUs by architecture, or the present one.
        shapes: the profiles of each input.
        embed: libraries of plugins that go into the plan.
    """
    needed = bool(embed) and not flavor(config.flavor).embeds_anywhere
    flags = {
        "VERSION_COMPATIBLE": config.version_compatible or needed,
        "WEIGHT_STREAMING": config.weight_streaming,
        "REFIT": config.refit,
    }
    return {
        "plan": str(plan),
        "targets": list(targets),
        "opens": CURRENT in targets,
        "profiles": [[asdict(each) for each in profile] for profile in shapes],
        "workspace": config.workspace,
        "optimization_level": config.optimization_level,
        "flags": [name for name, wanted in flags.items() if wanted],
        "tf32": config.tf32,
        "debug_tensors": config.debug_tensors,
        "hardware_compatible": config.hardware_compatible,
        "timing_cache": None if config.timing_cache is None else str(config.timing_cache),
        "timings": None if timings is None else str(timings),
        "embed": list(embed),
    }


def options_of(config: EngineConfig) -> dict[str, Any]:
    """The options that shape the plan; paths stay out of a file that travels."""
    local = {"flavor", "targets", "shapes", "plugin_library", "timing_cache", "timeout", "log", "weights_under"}
    local |= {"ep_context", "ep_context_embed"}
    return {key: value for key, value in asdict(config).items() if key not in local}
