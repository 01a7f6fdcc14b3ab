"""What a command may do with a file that nobody trusts, and what it must not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from normexport.errors import ExitCode
from tests.fuzz import hostile
from tests.fuzz.child import Observation

ACCEPTED = (ExitCode.GOOD, ExitCode.FAILED, ExitCode.INCONCLUSIVE)
REFUSED = (ExitCode.USAGE, ExitCode.CHECKPOINT, ExitCode.REFUSED, ExitCode.ENGINE, ExitCode.MISSING)
_LONGEST_LINE = 1500  # characters that a person may be asked to read

_SECRETS = (hostile.SECRET[:17], b"root:x:0:0:")

#: Path below the folder -> what it is: a digest, a link's target, a kind.
Snapshot = Mapping[str, str]


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder with its content."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"link to {path.readlink()}"
        elif stat.S_ISREG(mode):
            what = (
                hashlib.sha256(path.read_bytes()).hexdigest()
                if path.stat().st_size < 2**28
                else f"{path.stat().st_size} bytes"
            )
        else:
            what = "folder" if stat.S_ISDIR(mode) else "other"
        found[str(path.relative_to(folder))] = what
    return found


def judge(seen: Observation, before: Snapshot, folder: Path, memory: int, as_json: bool = False) -> list[str]:
    """Every rule that was broken, the gravest first; empty is good.

    Args:
        before: of `folder`, which holds the case's folder `case`, before the command ran.
        memory: bytes that the command may take beyond what it had inherited.
        as_json: a refusal is one JSON object on stdout, instead of one line on stderr.
    """
    after = snapshot(folder)
    new = sorted(path for path in after if path not in before)
    changed = [path for path in before if after.get(path) != before[path]]
    accepted = seen.exit_code in ACCEPTED
    outputs = [path for path in new if path.startswith("case/out")]
    return [
        *_marker(new),
        *(f"near code: {event}" for event in seen.events),
        *_read_outside(seen, folder, new),
        *_ending(seen, memory),
        *(["traceback"] if b"Traceback (most recent call last)" in seen.stderr else []),
        *([f"input changed: {changed[0]}"] if changed else []),
        *(_left(new, outputs) if accepted else [f"left behind: {path}" for path in new[:1]]),
        *(_told_as_json(seen) if as_json else _told(seen)),
    ]


def _marker(new: list[str]) -> list[str]:
    return ["code run: the marker was made"] if any(hostile.MARKER in path for path in new) else []


def _read_outside(seen: Observation, folder: Path, new: list[str]) -> list[str]:
    texts = [seen.stdout, seen.stderr]
    texts += [(folder / path).read_bytes() for path in new if (folder / path).is_file()]
    return ["read outside the folder"] if any(secret in text for secret in _SECRETS for text in texts) else []


def _ending(seen: Observation, memory: int) -> list[str]:
    if seen.stopped == "time":
        return ["hang"]
    if seen.stopped == "memory":
        return ["memory"]
    found = [f"memory: {seen.memory / 2**20:.0f} MB"] if seen.memory > memory else []
    if seen.signal is not None:
        return [f"signal {seen.signal}", *found]
    if seen.exit_code == ExitCode.BUG:
        return [f"exit {ExitCode.BUG}", *found]
    return found if seen.exit_code in (*ACCEPTED, *REFUSED) else [f"exit {seen.exit_code}", *found]


def _left(new: list[str], outputs: list[str]) -> list[str]:
    """Of an accepted file: outputs may be there, nothing hidden and nothing elsewhere."""
    strange = [path for path in new if path not in outputs or any(part.startswith(".") for part in Path(path).parts)]
    return [f"left behind: {path}" for path in strange[:1]]


def _told(seen: Observation) -> list[str]:
    """Of a refusal: one readable line on stderr and nothing on stdout."""
    if seen.exit_code not in REFUSED:
        return []
    text = seen.stderr.decode(errors="replace")
    lines = text.split("\n")[:-1]
    if len(lines) != 1 or not text.startswith("error: "):
        return [f"{len(lines)} lines on stderr"]
    if seen.stdout:
        return ["words on stdout beside the refusal"]
    if len(lines[0]) > _LONGEST_LINE:
        return ["line too long to read"]
    return [] if lines[0].isprintable() else ["line with control characters"]


def _told_as_json(seen: Observation) -> list[str]:
    if seen.exit_code not in REFUSED:
        return []
    if seen.stderr:
        return ["words on stderr beside the JSON"]
    try:
        error = json.loads(seen.stdout)["error"]
    except (ValueError, KeyError, TypeError):
        return ["a refusal that is no JSON object"]
    return [] if error["exit_code"] == seen.exit_code else ["the exit code is not that of the JSON"]


def refusal(seen: Observation) -> str:
    """The last line on stderr, or the same as `--json` told it."""
    if not seen.stderr and seen.stdout.startswith(b"{") and seen.exit_code not in ACCEPTED:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            error = json.loads(seen.stdout)["error"]
            return f"{error['place']}: {error['cause']}; {error['remedy']}"
    return seen.stderr.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("error: ")


def message_kind(seen: Observation) -> str:
    """The refusal without what differs from file to file: to count how many different ones were met."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", refusal(seen))
    text = re.sub(r"[\w./\\-]*\d[\w./\\-]*", "#", text)
    return text[:200]
