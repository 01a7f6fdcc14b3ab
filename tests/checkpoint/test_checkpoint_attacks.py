"""Files that would run code while they are read, walked, traced or exported: nothing runs, and one line says why."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport
from normexport.checkpoint import load
from normexport.checkpoint.pickles.unpickle import unpickle
from tests.checkpoint import pickle_parts as parts
from tests.checkpoint.support import Payload, refused, save

pytestmark = pytest.mark.slow

MAKE = (os.mkdir.__module__, "mkdir")
HONEST = parts.mapping(w=parts.tensor())


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A folder that the attack would make."""
    path = tmp_path / "made"
    yield path
    assert not path.exists(), "the file ran code"


def runs(marker: Path) -> bytes:
    """The call that makes the marker."""
    return parts.call(parts.name(*MAKE), parts.text(str(marker)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda attack: parts.mapping(w=parts.tensor(), x=attack),
        lambda attack: attack + b"0" + HONEST,
        lambda attack: parts.call(parts.name("collections", "OrderedDict")) + b"}" + parts.text("a") + attack + b"sb",
        lambda attack: parts.mapping(w=parts.tensor().replace(b"\x89", attack)),
        lambda attack: b"(" + attack + b"1" + HONEST,
        lambda attack: attack + parts.put(0) + b"0" + HONEST,
    ],
    ids=["in a dict", "popped", "in a state", "as requires_grad", "popped to a mark", "in the memo"],
)
def test_a_call_anywhere_in_the_pickle_is_refused_by_name(
    tmp_path: Path, marker: Path, wrap: Callable[..., Any]
) -> None:
    file = parts.write(tmp_path / "m.pt", wrap(runs(marker)), {"0": parts.FOUR})
    assert f"would run code to be loaded: {'.'.join(MAKE)};" in refused(file)


def test_the_attack_is_one_that_works(tmp_path: Path) -> None:
    with zipfile.ZipFile(parts.write(tmp_path / "m.pt", runs(tmp_path / "made"))) as archive:
        pickle.loads(archive.read("m/data.pkl"))
    assert (tmp_path / "made").exists()


def test_names_of_python_2_are_refused_as_what_they_mean_today(tmp_path: Path, marker: Path) -> None:
    attack = parts.call(parts.name("__builtin__", "eval"), parts.text(f"__import__('os').mkdir({str(marker)!r})"))
    assert "would run code to be loaded: builtins.eval;" in refused(parts.write(tmp_path / "m.pt", attack))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "hub.load"), ("torch._utils", "_import_dotted_name"), ("torch.nn.modules.module", "Module.apply"),
        ("builtins", "getattr"), ("torch.storage", "_load_from_bytes"), ("numpy.core.multiarray", "_reconstruct.x"),
        ("torch.nn", "modules.linear.Linear.__class__"), ("collections", "OrderedDict.fromkeys"),
        ("functools", "partial"), ("torch.jit", "load"), ("normexport.nn.convert", "convert_norms"),
        ("os\u2024path", "x"),
    ],
)  # fmt: skip
def test_names_beside_the_list_are_refused(tmp_path: Path, module: str, name: str) -> None:
    file = parts.write(tmp_path / "m.pt", parts.call(parts.name(module, name), parts.text("x")))
    assert f"would run code to be loaded: {module}.{name};" in refused(file)


def test_several_names_are_listed_and_counted(tmp_path: Path) -> None:
    body = b"".join(parts.name(f"evil{index}", "run") + b"0" for index in range(6)) + HONEST
    message = refused(parts.write(tmp_path / "m.pt", body, {"0": parts.FOUR}))
    assert "would run code to be loaded: evil0.run, evil1.run, evil2.run, evil3.run and 2 more; pass --trust" in message


@pytest.mark.parametrize(
    "body",
    [
        parts.mapping(w=parts.tensor(key="a\n\r\x1b[31m\u2028b")),
        b"\x8c\x03a\nb\x8c\x03c\rd\x93",
        parts.mapping(**{"a\nb\x1b": parts.mapping(x=b"N")}),
        parts.mapping(**{"a\nb": parts.tensor()}),
        parts.mapping(**{"x\n": parts.mapping(w=parts.tensor()), "y\r": parts.mapping(w=parts.tensor())}),
        parts.name("e" * 400, "v"),
    ],
)
def test_words_of_the_file_stay_in_one_printable_line(tmp_path: Path, body: bytes) -> None:
    message = refused(parts.write(tmp_path / "m.pt", body, {"0": parts.FOUR}))
    assert message.isprintable()
    assert len(message) < 600


def test_a_list_may_be_called_by_no_name_but_its_own(tmp_path: Path) -> None:
    """The result of one call called again, a tensor called, a string called."""
    for what in (parts.tensor(), parts.text("os.system"), parts.call(parts.name("collections", "OrderedDict"))):
        file = parts.write(tmp_path / "m.pt", what + b")R", {"0": parts.FOUR})
        assert "it calls something that is no function" in refused(file)


@pytest.mark.parametrize("trailing", ["m/data2.pkl", "n/data.pkl"])
def test_a_second_pickle_in_the_archive_is_not_read(tmp_path: Path, marker: Path, trailing: str) -> None:
    file = parts.write(tmp_path / "m.pt", HONEST, {"0": parts.FOUR})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(trailing, parts.pickle(runs(marker)))
    if trailing.startswith("m/"):
        assert load(file).source == "state_dict"
    else:
        assert "it is no archive of torch.save" in refused(file)


def test_a_second_pickle_of_the_same_name_is_refused(tmp_path: Path, marker: Path) -> None:
    file = parts.write(tmp_path / "m.pt", HONEST, {"0": parts.FOUR})
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/data.pkl", parts.pickle(runs(marker)))
    assert "is truncated or damaged (it holds both m/data.pkl and m/data.pkl)" in refused(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("m/DATA.PKL", parts.pickle(runs(marker)))
    assert "is truncated or damaged" in refused(file)


@pytest.mark.parametrize("place", ["magic", "version", "facts", "keys"])
def test_every_pickle_of_the_old_format_is_read_by_the_same_rules(tmp_path: Path, marker: Path, place: str) -> None:
    stream = tmp_path / "old.pt"
    torch.save({"w": torch.ones(4)}, stream, _use_new_zipfile_serialization=False)
    data, attack = stream.read_bytes(), parts.pickle(runs(marker))
    ends = [index + 1 for index in range(len(data)) if data[index : index + 1] == b"." and _whole(data, index + 1)]
    begin, end = {"magic": (0, ends[0]), "version": (ends[0], ends[1]), "facts": (ends[1], ends[2])}.get(
        place, (ends[3], ends[4])
    )
    (tmp_path / "m.pt").write_bytes(data[:begin] + attack + data[end:])
    refused(tmp_path / "m.pt")


def _whole(data: bytes, end: int) -> bool:
    """Whether whole pickles end here: another begins, or the storages do."""
    return data[end : end + 2] == b"\x80\x02" or data[end - 3 : end] == b"a.\x04"[:3] or data[end - 2 : end] == b"a."


def code(marker: Path) -> str:
    return f"__import__('os').mkdir({str(marker)!r})"


def test_a_name_with_a_line_break_is_refused_before_it_becomes_source(tmp_path: Path, marker: Path) -> None:
    """torch.fx writes it into a comment and into getattr(self, "..."), and runs the source: on `inspect --input`."""
    for name in (f"a\r{code(marker)}\r#", f'x"), {code(marker)}, ("', f"a\n{code(marker)}", f"a\u2028{code(marker)}"):
        for table in ("_modules", "_parameters", "_buffers"):
            net = nn.Sequential(nn.Linear(2, 2))
            holder = net[0] if table != "_modules" else net
            value = nn.Linear(2, 2) if table == "_modules" else nn.Parameter(torch.ones(2))
            getattr(holder, table)[name] = value
            assert "has a part with a name that could be code" in refused(save(tmp_path / "m.pt", net))


@pytest.mark.parametrize("key", ["forward", "__deepcopy__", "__reduce_ex__", "get_extra_state", "__call__", "_apply",
                                 "state_dict", "eval", "__class__", "__dict__", "_call_impl", "parameters", "to",
                                 "train", "requires_grad_", "named_modules", "kind"])  # fmt: skip
def test_an_attribute_that_replaces_code_is_refused(tmp_path: Path, key: str) -> None:
    net = nn.BatchNorm2d(3) if key != "kind" else __import__("normexport.nn").nn.L1BatchNorm2d(3)
    state = dict(net.__dict__)

    class Replaced:
        def __reduce__(self) -> tuple[type[nn.Module], tuple[Any, ...], Any]:
            return type(net), (), {**state, key: nn.functional.relu}

    message = refused(save(tmp_path / "m.pt", Replaced()))
    assert f"replaces {key}, which its class defines" in message


@pytest.mark.parametrize("hooks", [
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_forward_hooks_with_kwargs", "_backward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
])  # fmt: skip
def test_hooks_are_refused(tmp_path: Path, hooks: str) -> None:
    net = nn.Linear(2, 2)
    getattr(net, hooks)[0] = nn.functional.relu
    assert "a Linear in it has hooks, which are code" in refused(save(tmp_path / "m.pt", net))


def test_a_module_as_a_hook_is_refused(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net._forward_pre_hooks[0] = nn.Linear(2, 2)
    assert "has hooks, which are code" in refused(save(tmp_path / "m.pt", net))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["forward", "bias", "__class__", "x"])
def test_a_weight_norm_hook_writes_its_weight_and_nothing_else(tmp_path: Path, name: str) -> None:
    net: Any = nn.utils.weight_norm(nn.Linear(2, 2))
    hook = net._forward_pre_hooks[next(iter(net._forward_pre_hooks))]
    hook.name = name
    net._parameters[f"{name}_v"], net._parameters[f"{name}_g"] = net.weight_v, net.weight_g
    if name == "x":
        assert load(save(tmp_path / "m.pt", nn.utils.weight_norm(nn.Linear(2, 2)))).weight_norms
    else:
        refused(save(tmp_path / "m.pt", net))


def test_an_ordered_dict_carries_no_attributes_of_the_file(tmp_path: Path) -> None:
    """`items` of an instance would shadow the method."""
    metadata = parts.mapping(**{"": parts.mapping(version=b"K\x01")})
    attributes = parts.mapping(items=b"K\x03", values=b"K\x03", __class__=b"K\x03", _metadata=metadata)
    state = parts.call(parts.name("collections", "OrderedDict")) + b"(" + parts.text("w") + parts.tensor() + b"u"
    file = parts.write(tmp_path / "m.pt", state + attributes + b"b", {"0": parts.FOUR})
    assert unpickle(file, trust=False).__dict__ == {"_metadata": {"": {"version": 1}}}
    assert load(file).source == "state_dict"


def test_nothing_of_an_untrusted_pickle_reaches_the_reader_of_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("torch.load was called"))
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: pytest.fail("pickle.load was called"))
    monkeypatch.setattr(pickle, "Unpickler", None)
    for zipped in (True, False):
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        assert load(tmp_path / "m.pt").source == "state_dict"


def test_trust_still_opens_what_runs_code(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"state_dict": nn.Linear(2, 2).state_dict(), "x": Payload(tmp_path / "made")})
    refused(file)
    assert load(file, trust=True).source == "state_dict"
    assert (tmp_path / "made").exists()


def test_trust_opens_archives_of_any_form(tmp_path: Path) -> None:
    """A comment behind the directory, and a folder entry, are refused without it."""
    file = save(tmp_path / "m.pt", nn.Linear(2, 2).state_dict())
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"made by hand"
    assert "is truncated or damaged" in refused(file)
    assert load(file, trust=True).source == "state_dict"


def test_an_honest_module_is_inspected_through_its_export(tmp_path: Path) -> None:
    """The refusals above are of what is hostile: names with digits, dashes and letters of any language export."""
    net = nn.Sequential(OrderedDict([("1x1", nn.Conv2d(3, 4, 1)), ("größe-2", nn.BatchNorm2d(4)), ("b c", nn.ReLU())]))
    result = normexport.inspect(load(save(tmp_path / "m.pt", net.eval())), ["3x4x4"])
    assert [norm.path for norm in result.norms] == ["größe-2"]
    shutil.rmtree(tmp_path / "absent", ignore_errors=True)
