"""The header script: what it accepts, and the package sources it makes of the machine's own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "plugins" / "headers.py"
spec = importlib.util.spec_from_file_location("plugin_headers", SCRIPT)
assert spec is not None
headers = importlib.util.module_from_spec(spec)
sys.modules["plugin_headers"] = headers
spec.loader.exec_module(headers)

BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
DEB822 = """\
Types: deb
# a comment that names bookworm
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""


def tree(root: Path, highway: tuple[int, int] = (1, 2), api: int = 21, folder: str = "onnxruntime") -> Path:
    """An include folder with headers that say they are of these versions."""
    (root / "hwy").mkdir(parents=True)
    (root / "hwy" / "highway.h").write_text("")
    (root / "hwy" / "base.h").write_text(f"#define HWY_MAJOR {highway[0]}\n#define HWY_MINOR {highway[1]}\n")
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "onnxruntime_c_api.h").write_text(f"#define ORT_API_VERSION {api}\n")
    return root


def test_deb822_sources_keep_the_mirror_and_its_key_and_change_the_release() -> None:
    (text,) = headers.newer_sources(BOOKWORM, {"debian.sources": DEB822}).values()
    assert text == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/archive.gpg\n"
    )


def test_one_line_sources_keep_the_mirror_and_change_the_release() -> None:
    lines = (
        "# deb http://mirror.example/debian bookworm main\n"
        "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main contrib\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
        "deb https://vendor.example/sdk sdk-bookworm main\n"
    )
    assert headers.newer_sources(BOOKWORM, {"sources.list": lines}) == {
        "sources.list": "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian trixie main contrib\n"
    }


def test_other_distributions_have_no_sources_to_derive() -> None:
    assert headers.newer_sources({"ID": "fedora"}, {"debian.sources": DEB822}) == {}
    assert headers.newer_sources(BOOKWORM, {"vendor.list": "deb https://vendor.example/x stable-x main"}) == {}


def test_folder_named_by_the_environment_is_taken_when_recent_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "include")
    monkeypatch.setenv("NORMEXPORT_HEADERS", str(root))
    assert headers.headers(tmp_path / "fetched", fetch=False) == [root]


@pytest.mark.parametrize("folder", ["onnxruntime", "onnxruntime/core/session", "."])
def test_every_place_where_packages_put_the_api_is_known(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMEXPORT_HEADERS", str(tree(tmp_path / "include", folder=folder)))
    assert headers.headers(tmp_path / "fetched", (headers.ONNXRUNTIME,), fetch=False) == [tmp_path / "include"]


@pytest.mark.parametrize("old", [{"highway": (1, 0)}, {"highway": (0, 17)}, {"api": 20}])
def test_headers_that_are_too_old_do_not_count(
    old: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "include", **old)
    monkeypatch.setattr(headers, "include_folders", lambda folder: [root])
    with pytest.raises(headers.HeadersMissing, match=r"1\.1 or later|1\.21 or later"):
        headers.headers(tmp_path / "fetched", fetch=False)


def test_failure_is_one_line_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "include_folders", lambda folder: [])
    monkeypatch.setattr(headers, "_os_release", lambda: {"ID": "fedora"})
    with pytest.raises(headers.HeadersMissing) as caught:
        headers.headers(tmp_path)
    assert "libhwy-dev and libonnxruntime-dev" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_script_runs_alone_and_prints_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_HEADERS", str(tree(tmp_path / "include")))
    command = [sys.executable, "-S", "-E", str(SCRIPT), str(tmp_path / "fetched")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'include'}\n"
    assert subprocess.run([sys.executable, str(SCRIPT)], capture_output=True).returncode == 2
