"""One case: files, the command that opens them, what was done to them; and how archives are changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import pickles, raw, seeds, zips
from tests.fuzz.dice import Dice
from tests.fuzz.zips import Layout, Record

#: Content of a file; a symbolic link to that path; None: a pipe that nobody writes to.
Content = bytes | str | None

NETWORK = ("--model", seeds.FACTORY)
INPUT = ("--input", seeds.SHAPE)


@dataclass(frozen=True)
class Case:
    """Files in an otherwise empty folder, the command that runs there, and what was done to the files."""

    files: dict[str, Content]
    words: tuple[str, ...]
    steps: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(len(content) for content in self.files.values() if isinstance(content, bytes))


def zip_of(
    data: bytes, dice: Dice, change: Callable[[list[Record], Dice], tuple[list[Record], str]]
) -> tuple[bytes, list[str]]:
    """An archive with a few changes of its records, and at times of the archive itself."""
    records, steps, layout = zips.read(data), [], Layout()
    if dice.chance(8):
        layout, words = zips.lying_layout(records, dice)
        steps.append(words)
    for _ in range(0 if steps and dice.chance(60) else dice.few()):
        try:
            records, words = change(records, dice)
        except Exception:  # of an earlier change
            records, words = zips.mutate(records, dice)
        steps.append(words)
    packed = zips.write(records, layout)
    if dice.chance(4):
        packed, words = raw.mutate(packed, dice)
        steps.append(words)
    return packed, steps


def checkpoint_records(records: list[Record], dice: Dice) -> tuple[list[Record], str]:
    """The records of an archive with one change, mostly of its pickle."""
    at = next((at for at, record in enumerate(records) if record.name.endswith(b"data.pkl")), 0)
    if dice.chance(75):
        data, words = raw.unless(pickles.mutate, records[at].data, dice)
        return zips.with_data(records, at, data), words
    if dice.chance(25):
        at = dice.randrange(len(records))
        data, words = raw.mutate(records[at].data, dice)
        return zips.with_data(records, at, data), f"{records[at].name[-20:]!r} {words}"
    return zips.mutate(records, dice)
