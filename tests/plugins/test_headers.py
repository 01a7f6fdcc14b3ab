"""Where headers are found, and what is fetched: nothing that is not the file it should be."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"


def loaded(name: str) -> ModuleType:
    """A script of plugins/, as a module."""
    spec = importlib.util.spec_from_file_location(name, PLUGINS / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


headers: Any = loaded("headers")
fetch_headers: Any = loaded("fetch_headers")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No headers but those that a test puts somewhere."""
    for name in ("NORMEXPORT_HEADERS", "TENSORRT_ROOT", "CONDA_PREFIX", "CMAKE_PREFIX_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(headers, "_SYSTEM", ())
    monkeypatch.setattr(headers, "_SYSTEM_TENSORRT", ())


def tree(root: Path, highway: tuple[int, int] = (1, 2), api: int = 21, folder: str = "onnxruntime") -> Path:
    """An include folder with headers that say they are of these versions."""
    (root / "hwy").mkdir(parents=True)
    (root / "hwy" / "highway.h").write_text("")
    (root / "hwy" / "base.h").write_text(f"#define HWY_MAJOR {highway[0]}\n#define HWY_MINOR {highway[1]}\n")
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "onnxruntime_c_api.h").write_text(f"#define ORT_API_VERSION {api}\n")
    return root


def packed(files: dict[str, bytes], mode: Any) -> bytes:
    """A tar archive of these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


def deb(files: dict[str, bytes]) -> bytes:
    """A Debian package as dpkg-deb writes one: an ar archive of three members, one of an odd size."""
    parts = {"debian-binary": b"2.0", "control.tar.xz": b"control", "data.tar.xz": packed(files, "w:xz")}
    content = b"!<arch>\n"
    for name, text in parts.items():
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(text):<10}`\n".encode() + text + b"\n" * (len(text) % 2)
        )
    return content


def offered(path: Path, content: bytes, keep: dict[str, str], sha256: str = "") -> Any:
    """A download of a file that lies at `path` with this content."""
    path.write_bytes(content)
    return fetch_headers.Download(path.as_uri(), sha256 or hashlib.sha256(content).hexdigest(), keep)


def test_folder_named_by_the_environment_is_taken_when_recent_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "include")
    monkeypatch.setenv("NORMEXPORT_HEADERS", str(root))
    assert headers.headers(tmp_path / "fetched") == [root]


@pytest.mark.parametrize("folder", ["onnxruntime", "onnxruntime/core/session", "."])
def test_every_place_where_packages_put_the_api_is_known(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMEXPORT_HEADERS", str(tree(tmp_path / "include", folder=folder)))
    assert headers.headers(tmp_path / "fetched", (headers.ONNXRUNTIME,)) == [tmp_path / "include"]


@pytest.mark.parametrize("old", [{"highway": (1, 0)}, {"highway": (0, 17)}, {"api": 20}])
def test_headers_that_are_too_old_do_not_count(
    old: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "include", **old)
    monkeypatch.setattr(headers, "include_folders", lambda header, folder: [root])
    with pytest.raises(headers.HeadersMissing, match=r"1\.1 or later|1\.21 or later"):
        headers.headers(tmp_path / "fetched")


def test_what_is_missing_is_one_line_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(
        headers.HeadersMissing, match=r"run: python .*fetch_headers\.py .* highway onnxruntime"
    ) as caught:
        headers.headers(tmp_path)
    assert "libhwy-dev of Debian 13" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_headers_that_a_wheel_carries_are_found_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tree(tmp_path / "both")
    for name, part in (("highway", "hwy"), ("onnxruntime", "onnxruntime")):
        (tmp_path / "carried" / name).mkdir(parents=True)
        (both / part).rename(tmp_path / "carried" / name / part)
    monkeypatch.setattr(headers, "CARRIED", tmp_path / "carried")
    assert headers.headers(tmp_path / "none") == [
        tmp_path / "carried" / "highway",
        tmp_path / "carried" / "onnxruntime",
    ]


def test_an_unpacked_tensorrt_comes_first_and_one_without_headers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("fetched/tensorrt", "given/include"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "NvInferRuntime.h").write_text("")
    assert headers.headers(tmp_path / "fetched", (headers.TENSORRT,)) == [tmp_path / "fetched" / "tensorrt"]
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path / "given"))
    assert headers.headers(tmp_path / "fetched", (headers.TENSORRT,)) == [tmp_path / "given" / "include"]
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path))
    with pytest.raises(headers.HeadersMissing, match=r"TENSORRT_ROOT: .* holds no NvInferRuntime"):
        headers.headers(tmp_path / "fetched", (headers.TENSORRT,))


def test_script_runs_alone_and_prints_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_HEADERS", str(tree(tmp_path / "include")))
    for script in ("headers.py", "fetch_headers.py"):
        command = [sys.executable, "-S", "-E", str(PLUGINS / script), str(tmp_path / "fetched")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert set(done.stdout.splitlines()) == {str(tmp_path / "include")}
        for words in ([], [str(tmp_path), "openvino"]):
            assert subprocess.run([sys.executable, PLUGINS / script, *words], capture_output=True).returncode == 2


def test_archives_give_the_headers_that_are_wanted_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {
        "r/hwy/highway.h": b"1",
        "r/hwy/base.cc": b"2",
        "r/hwy/ops/x.h": b"3",
        "r/hwy/tests/t.h": b"4",
        "r/L": b"5",
    }
    keep = {"r/hwy/*.h": "hwy", "r/hwy/ops/*.h": "hwy/ops", "r/L": "LICENSE"}
    archive = offered(tmp_path / "a.tar.gz", packed(source, "w:gz"), keep)
    package = offered(tmp_path / "b.deb", deb({"./usr/o.h": b"6", "./usr/p.h": b"7"}), {"./usr/o.h": "o/o.h"})
    monkeypatch.setattr(fetch_headers, "PLACES", {"highway": ((archive, package),)})
    root = fetch_headers.fetch("highway", tmp_path / "fetched")
    found = {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    assert found == {"hwy/highway.h": b"1", "hwy/ops/x.h": b"3", "LICENSE": b"5", "o/o.h": b"6"}
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["highway"]


def test_a_file_that_is_not_the_one_it_should_be_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = offered(tmp_path / "good.h", b"good", {"": "a.h"})
    evil = offered(tmp_path / "evil.h", b"evil", {"": "b.h"}, hashlib.sha256(b"good").hexdigest())
    monkeypatch.setattr(fetch_headers, "PLACES", {"highway": ((good, evil),)})
    with pytest.raises(fetch_headers.CanNotFetch, match=r"evil\.h is not the file it should be"):
        fetch_headers.fetch("highway", tmp_path / "fetched")
    assert list((tmp_path / "fetched").iterdir()) == []
    monkeypatch.setattr(fetch_headers, "PLACES", {"highway": ((good, evil), (good,))})
    assert (fetch_headers.fetch("highway", tmp_path / "fetched") / "a.h").read_bytes() == b"good"


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 30])
def test_a_damaged_package_is_one_line(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_headers, "PLACES", {"highway": ((offered(tmp_path / "a.deb", content, {"x": "y"}),),)})
    with pytest.raises(fetch_headers.CanNotFetch, match="without data"):
        fetch_headers.fetch("highway", tmp_path / "fetched")


def test_a_place_that_lacks_what_is_wanted_or_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = offered(tmp_path / "a.tar.gz", packed({"r/x.h": b""}, "w:gz"), {"r/x.h": "x.h", "r/y.h": "y.h"})
    gone = fetch_headers.Download((tmp_path / "none").as_uri(), "", {"": "x.h"})
    monkeypatch.setattr(fetch_headers, "PLACES", {"highway": ((lacking,), (gone,))})
    with pytest.raises(fetch_headers.CanNotFetch, match=r"a\.tar\.gz lacks headers; .*none \(.*No such file"):
        fetch_headers.fetch("highway", tmp_path / "fetched")


def test_every_place_is_https_and_every_file_has_a_hash() -> None:
    downloads = [each for places in fetch_headers.PLACES.values() for place in places for each in place]
    assert len(downloads) == 2 + 2 + 1 + 9
    assert all(each.address.startswith("https://") and len(bytes.fromhex(each.sha256)) == 32 for each in downloads)
    assert set(fetch_headers.PLACES) == set(headers.BY_NAME)
