"""The formats: for each, how a case is made (mutated files and the command that opens them) from its dice."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace

from tests.fuzz import (
    arrays,
    containers,
    hostile,
    modules,
    pickles,
    pictures,
    programs,
    protos,
    raw,
    seeds,
    stores,
    trees,
    zips,
)
from tests.fuzz.cases import INPUT, NETWORK, Case, Content, checkpoint_records, zip_of
from tests.fuzz.dice import Dice
from tests.fuzz.zips import Layout, Record


def checkpoint(dice: Dice) -> Case:
    """`.pt`: state_dicts, training checkpoints and modules, by opcode, by record and by object."""
    name = dice.one_of(sorted(seeds.checkpoints()))
    data, steps = seeds.checkpoints()[name], [name]
    if dice.chance(22):
        data, more = modules.mutate(dice)
    elif name.startswith("old"):
        more = []
        for _ in range(dice.few()):
            data, change = raw.unless(pickles.mutate, data, dice) if dice.chance(90) else raw.mutate(data, dice)
            more.append(change)
    else:
        data, more = zip_of(data, dice, checkpoint_records)
    words = dice.choices((
        ("inspect", "model.pt"), ("inspect", "model.pt", *INPUT), ("inspect", "model.pt", *NETWORK, *INPUT),
        ("convert", "model.pt", *NETWORK, *INPUT, "-o", "out"), ("convert", "model.pt", *INPUT, "-o", "out"),
        ("export", "model.pt", *INPUT, "-o", "out.onnx"), ("inspect", "model.pt", "--json"),
        ("inspect", "model.pt", "--dialect", dice.one_of(("elektronn3", "normexport", "batchnorm"))),
    ), (34, 24, 14, 6, 8, 4, 5, 5))[0]  # fmt: skip
    return Case({"model.pt": data}, words, (*steps, *more))


#: How changes begin that a strict reader lets through: they are worth a conversion.
_DEEP = ("node", "model.json plausibly", "model_weights_config.json plausibly")


def program(dice: Dice) -> Case:
    """`.pt2`: archives of exported programs."""
    name = dice.one_of(sorted(seeds.programs()))
    data, steps = zip_of(seeds.programs()[name], dice, programs.mutate)
    words = dice.choices((
        ("inspect", "model.pt2"), ("convert", "model.pt2", "-o", "out"), ("export", "model.pt2", "-o", "out.onnx"),
        ("inspect", "model.pt2", "--json"),
    ), (34, 50, 12, 4) if all(step.startswith(_DEEP) for step in steps) else (70, 12, 12, 6))[0]  # fmt: skip
    return Case({"model.pt2": data}, words, (name, *steps))


def graph(dice: Dice) -> Case:
    """`.onnx`: with and without weights in a file beside it."""
    name = dice.one_of(sorted(seeds.graphs()))
    honest, steps = seeds.graphs()[name], [name]
    files: dict[str, Content] = dict(honest)
    data = honest["model.onnx"]
    if len(honest) > 1 and dice.chance(10):
        files["model.onnx.data"], change = raw.mutate(honest["model.onnx.data"], dice)
        steps.append(change)
    for _ in range(dice.few()):
        data, change = raw.unless(protos.mutate, data, dice)
        steps.append(change)
    files |= {"model.onnx": data, "link.bin": hostile.SECRET_FILE, "link": "..", "loop.bin": "loop.bin", "pipe": None}
    words = dice.choices((
        ("fold", "model.onnx", "-o", "out.onnx"), ("inspect", "model.onnx"), ("parity", "original.onnx", "model.onnx"),
        ("parity", "model.onnx", "original.onnx", "--layers"), ("evaluate", "model.onnx", "--data", "data.npz"),
        ("inspect", "model.onnx", "--json"),
    ), (46, 20, 16, 4, 10, 4))[0]  # fmt: skip
    if "original.onnx" in words:
        files["original.onnx"] = honest["model.onnx"]
    if "--data" in words:
        files["data.npz"] = seeds.arrays()["stored"]
    return Case(files, tuple(words), tuple(steps))


def _array_records(records: list[Record], dice: Dice) -> tuple[list[Record], str]:
    if not records or dice.chance(25):
        return zips.mutate(records, dice)
    at = dice.randrange(len(records))
    data, words = raw.unless(arrays.mutate, records[at].data, dice)
    return zips.with_data(records, at, data), words


def array(dice: Dice) -> Case:
    """`.npz` and `.npy`: labelled data, calibration data, inputs of a plan."""
    name = dice.one_of(sorted(seeds.arrays()))
    records = zips.read(seeds.arrays()[name])
    if name == "deflated":
        records = [replace(record, method=zips.DEFLATED) for record in records]
    steps, layout = [name], Layout(torch=False)
    for _ in range(dice.few()):
        records, change = _array_records(records, dice)
        steps.append(change)
    if dice.chance(10):
        layout, change = zips.lying_layout(records, dice, torch=False)
        steps.append(change)
    data = zips.write(records, layout)
    if dice.chance(5):
        data, change = raw.mutate(data, dice)
        steps.append(change)
    models = seeds.graphs()["folded"]["model.onnx"]
    files: dict[str, Content] = {"data.npz": data}
    words = dice.choices((
        ("evaluate", "model.onnx", "--data", "data.npz"), ("parity", "model.onnx", "model.onnx", "--data", "data.npz"),
        ("samples", "data.npz"), ("samples", "data"), ("samples", "data.npy"),
        ("run", "model.plan", "--inputs", "data.npz", "-o", "out.npz"),
        ("convert", "weights.pth", *NETWORK, *INPUT, "--data", "data.npz", "-o", "out"),
    ), (34, 10, 24, 12, 8, 10, 2))[0]  # fmt: skip
    if "model.onnx" in words:
        files["model.onnx"] = models
    if "weights.pth" in words:
        files["weights.pth"] = seeds.checkpoints()["state"]
    if "model.plan" in words:
        files |= {"model.plan": b"plan", "model.plan.json": seeds.manifest(b"plan")}
    if words[1] in ("data", "data.npy"):
        del files["data.npz"]
        single, change = arrays.mutate(_npy(dice), dice)
        steps = [change]
        files |= {"data/a.npy": _npy(dice), "data/b.npy": single} if words[1] == "data" else {"data.npy": single}
    return Case(files, tuple(words), tuple(steps))


def _npy(dice: Dice) -> bytes:
    with zipfile.ZipFile(io.BytesIO(seeds.arrays()["stored"])) as archive:
        batch = archive.read("input.npy")
    return batch.replace(b"(5, 3, 8, 8)", b"(3, 8, 8)   ")[: 128 + 3 * 8 * 8 * 4]


#: Strings that manifests, layer maps and calibration caches take seriously.
_DOCUMENT_STRINGS = ("model.plan", "../secret.bin", "/etc/passwd", "float32", "float16", "x", "mse", "conv1")


def document(dice: Dice) -> Case:
    """JSON: manifests of plans, layer maps, calibration caches."""
    kind = dice.choices(("plan", "layers", "calibration"), (56, 10, 34))[0]
    plan = b"plan of no engine"
    makers: dict[str, Callable[[], bytes]] = {
        "plan": lambda: seeds.manifest(plan, plugin=dice.chance(40)),
        "layers": seeds.layer_map,
        "calibration": seeds.calibration,
    }
    data, steps = makers[kind](), [kind]
    for _ in range(dice.few()):
        data, change = raw.unless(trees.mutate, data, dice, _DOCUMENT_STRINGS)
        steps.append(change)
    words: tuple[str, ...]
    if kind == "plan":
        words = dice.choices(
            (
                ("inspect", "model.plan"),
                ("inspect", "model.plan", "--json"),
                ("run", "model.plan", "--inputs", "data.npz", "-o", "out.npz"),
                ("parity", "model.onnx", "model.plan"),
                ("evaluate", "model.plan", "--data", "data.npz"),
            ),
            (50, 15, 15, 10, 10),
        )[0]
        files: dict[str, Content] = {"model.plan": plan, "model.plan.json": data}
        if "data.npz" in words:
            files["data.npz"] = seeds.arrays()["stored"]
        if "model.onnx" in words:
            files["model.onnx"] = seeds.graphs()["folded"]["model.onnx"]
    elif kind == "layers":
        words = ("parity", "weights.pth", "model.onnx", *NETWORK, *INPUT, "--layers")
        files = {
            "weights.pth": seeds.checkpoints()["state"],
            "model.onnx": seeds.graphs()["live"]["model.onnx"],
            "model.layers.json": data,
        }
    else:
        words = (kind, "cache.json", "model.onnx")
        files = {"cache.json": data, "model.onnx": seeds.graphs()["folded"]["model.onnx"]}
    return Case(files, tuple(words), tuple(steps))


#: Strings that a capsule takes seriously.
_CAPSULE_STRINGS = ("output_0_0", "boundary_0", "capsule", "budget", "snr", "float16", "int8", "output", "input")


def _capsule_records(records: list[Record], dice: Dice) -> tuple[list[Record], str]:
    at = next((at for at, record in enumerate(records) if record.name == b"capsule.npy"), None)
    if at is None or b"'shape': " not in records[at].data[:128] or dice.chance(40):
        return _array_records(records, dice)
    head, text = records[at].data[:128], records[at].data[128:]
    text, words = raw.unless(trees.mutate, text, dice, _CAPSULE_STRINGS)
    shape = f"({len(text)},), }}".encode()
    head = head[: head.index(b"'shape': ") + 9] + shape
    return zips.with_data(records, at, head + b" " * (127 - len(head)) + b"\n" + text), words


def capsule(dice: Dice) -> Case:
    """Capsules: the text and the arrays that it names."""
    files: dict[str, Content] = dict(seeds.capsule())
    records = zips.read(seeds.capsule()["capsule.npz"])
    steps, layout = [], Layout(torch=False)
    for _ in range(dice.few()):
        records, change = _capsule_records(records, dice)
        steps.append(change)
    if dice.chance(8):
        layout, change = zips.lying_layout(records, dice, torch=False)
        steps.append(change)
    files["capsule.npz"] = zips.write(records, layout)
    words = dice.choices((
        ("prove", "capsule.npz", "model.onnx"), ("prove", "capsule.npz", "model.onnx", "--layers"),
        ("prove", "capsule.npz", "model.onnx", "--json"), ("prove", "capsule.npz", "capsule.npz"),
    ), (60, 20, 10, 10))[0]  # fmt: skip
    return Case(files, words, tuple(steps))


def image(dice: Dice) -> Case:
    """A folder of pictures as calibration data."""
    suffix = dice.one_of(sorted(pictures.KINDS))
    data, steps = pictures.honest(suffix), []
    for _ in range(dice.few()):
        data, words = raw.unless(pictures.mutate, data, dice, suffix)
        steps.append(words)
    files: dict[str, Content] = {"pictures/a.png": pictures.honest(".png"), f"pictures/b{suffix}": data}
    return Case(files, ("samples", "pictures"), (suffix, *steps))


FORMATS: dict[str, Callable[[Dice], Case]] = {
    "pt": checkpoint, "pt2": program, "onnx": graph, "npz": array, "json": document, "image": image,
    "capsule": capsule, "safetensors": containers.safetensors, "index": containers.index, "folder": containers.folder,
    "lightning": containers.lightning, "torchscript": containers.torchscript, "state": stores.state,
    "tar": stores.shard, "parquet": stores.table,
}  # fmt: skip


def case(format: str, seed: int, number: int) -> Case:
    """Case `number` of a campaign: the same at every call."""
    return FORMATS[format](Dice.of(format, seed, number))
