"""Containers of weights: safetensors, several files with an index, folders, Lightning's checkpoints, TorchScript."""

from __future__ import annotations

import json
import struct
from typing import Any

from tests.fuzz import hostile, raw, seeds, trees
from tests.fuzz.cases import INPUT, NETWORK, Case, Content, checkpoint_records, zip_of
from tests.fuzz.dice import Dice

#: Strings that a header of safetensors takes seriously.
_HEADER_STRINGS = (
    "F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "conv.weight", "norm.running_mean",
    "__metadata__", "pt",
)  # fmt: skip
#: Names of files that an index has no business with, and of some that it has.
_FILES = (
    "../secret.bin", "/etc/passwd", "link.bin", "loop.bin", "pipe", "sub", "model.safetensors.index.json", "..", ".",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "twin", "code.bin", "a/../../secret.bin",
)  # fmt: skip


_OPTIONS = (
    (), ("--weights", "ema"), ("--weights", "state_dict"), ("--prefix", "model."), ("--ignore-keys", "criterion."),
)  # fmt: skip


def _commands(file: str, dice: Dice) -> tuple[str, ...]:
    options = (*NETWORK, *INPUT, *dice.choices(_OPTIONS, (60, 10, 10, 10, 10))[0])
    return dice.choices((
        ("inspect", file), ("inspect", file, *options), ("inspect", file, "--json", *options),
        ("convert", file, *options, "-o", "out"), ("export", file, *options, "-o", "out.onnx"),
    ), (40, 36, 8, 8, 8))[0]  # fmt: skip


def _mutated(data: bytes, dice: Dice) -> tuple[bytes, str]:
    """A safetensors file with one change: of its header's tree, of its length, or of its bytes."""
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = data[8 : 8 + length], data[8 + length :]
    if dice.chance(12):
        return raw.mutate(data, dice)
    if dice.chance(20):  # of the numbers alone, which leaves a file that is read
        changed, words = raw.mutate(rest, dice)
        return data[: len(data) - len(rest)] + changed[: len(rest)].ljust(len(rest), b"\0"), f"numbers {words}"
    if dice.chance(12):
        lie = dice.one_of((0, 1, length - 1, length + 1, len(data), len(data) - 8, 2**31, 2**32, 2**63, 2**64 - 1))
        return struct.pack("<Q", lie) + header + rest, f"length {lie}"
    header, words = trees.mutate(header, dice, _HEADER_STRINGS)
    return struct.pack("<Q", len(header)) + header + rest, words


def safetensors(dice: Dice) -> Case:
    """`.safetensors`: headers, lengths, bytes."""
    name = dice.one_of(("model.safetensors", "half.safetensors"))
    data, steps = seeds.safetensors()[name], [name]
    for _ in range(dice.few()):
        data, change = raw.unless(_mutated, data, dice)
        steps.append(change)
    file = dice.choices(("model.safetensors", "model.pt"), (80, 20))[0]
    return Case({file: data}, _commands(file, dice), tuple(steps))


def _around(prefix: str, dice: Dice) -> dict[str, Content]:
    """What stands beside the files that are meant: links, a pipe, code, a folder."""
    return {
        f"{prefix}link.bin": f"../{hostile.SECRET_FILE}" if prefix else hostile.SECRET_FILE,
        f"{prefix}loop.bin": "loop.bin",
        f"{prefix}pipe": None,
        f"{prefix}sub": "..",
        f"{prefix}twin": "model-00001-of-00002.safetensors",
        f"{prefix}code.bin": hostile.payload(dice),
    }


def _sharded(dice: Dice, prefix: str) -> tuple[dict[str, Content], list[str]]:
    """An index and its two files, the index or one of the files changed."""
    honest = {name: data for name, data in seeds.safetensors().items() if "-of-" in name or name.endswith(".json")}
    files: dict[str, Content] = {prefix + name: data for name, data in honest.items()}
    steps = []
    for _ in range(dice.few()):
        name = dice.choices(sorted(honest), (15, 15, 70))[0]
        change = _in_map if name.endswith(".json") else _mutated
        honest[name], words = raw.unless(change, honest[name], dice)
        files[prefix + name] = honest[name]
        steps.append(f"{name} {words}")
    return files | _around(prefix, dice), steps


def _in_map(data: bytes, dice: Dice) -> tuple[bytes, str]:
    if dice.chance(40):
        return trees.mutate(data, dice, _FILES)
    document: Any = json.loads(data)
    name = dice.one_of(sorted(document["weight_map"]))
    document["weight_map"][name] = dice.one_of(_FILES)
    return json.dumps(document).encode(), f"{name} in {document['weight_map'][name]!r}"


def index(dice: Dice) -> Case:
    """Indexes of several files: names that lead elsewhere, maps that contradict the files."""
    files, steps = _sharded(dice, "")
    return Case(files, _commands("model.safetensors.index.json", dice), tuple(steps))


_CONFIG = json.dumps(
    {"architectures": ["Net"], "auto_map": {"AutoModel": f"{hostile.MODULE}.f"}, "model_type": "net", "sizes": [1, 2]}
).encode()


def folder(dice: Dice) -> Case:
    """Folders as Hugging Face lays them out."""
    config, steps = _CONFIG, []
    if dice.chance(40):
        config, change = raw.unless(trees.mutate, config, dice, (f"{hostile.MODULE}:f", "../secret.bin"))
        steps.append(f"config {change}")
    if dice.chance(40):
        files, more = _sharded(dice, "net/")
    else:
        data, change = raw.unless(_mutated, seeds.safetensors()["model.safetensors"], dice)
        linked = dice.chance(15)
        files = {**_around("net/", dice), "net/model.safetensors": dice.one_of(_FILES) if linked else data}
        more = ["linked" if linked else change]
    if dice.chance(15):
        files["net/pytorch_model.bin"] = hostile.payload(dice)
    files["net/config.json"] = config
    return Case(files, _commands("net", dice), (*steps, *more))


def lightning(dice: Dice) -> Case:
    """`.ckpt` of Lightning: two networks, settings, keys beside the model's."""
    data, steps = zip_of(seeds.lightning(), dice, checkpoint_records)
    words = _commands("model.ckpt", dice)
    if "--weights" not in words and dice.chance(70):
        words = (*words, "--weights", dice.one_of(("state_dict", "model", "ema", "callbacks.EMA{'every': 1}", "x")))
    return Case({"model.ckpt": data}, words, tuple(steps))


def torchscript(dice: Dice) -> Case:
    """TorchScript archives: their pickles of objects, and all that lies beside."""
    name = dice.one_of(sorted(seeds.torchscript()))
    data, steps = zip_of(seeds.torchscript()[name], dice, checkpoint_records)
    return Case({"model.pt": data}, _commands("model.pt", dice), (name, *steps))
