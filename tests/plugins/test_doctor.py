"""The doctor finds what is wrong with a library, and is not hurt by it."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

from normexport import plugins
from normexport.errors import UsageError
from normexport.plugins.doctor import Diagnosis, examine
from normexport.plugins.elf import Elf, NotElf, newest
from normexport.plugins.kernels import ABI_VERSION
from tests.plugins.conftest import Compile

pytestmark = pytest.mark.slow

#: A library that has every symbol of the kernels and computes nothing.
HOLLOW = """
#include <cstdint>
#include <cstddef>
extern "C" int32_t nx_abi_version() {{ return {version}; }}
extern "C" int32_t nx_check(const void*) {{ return 0; }}
extern "C" int32_t nx_cpu_norm(...) {{ return 0; }}
extern "C" int32_t nx_cpu_forward(...) {{ return 0; }}
extern "C" int32_t nx_cpu_backward(...) {{ return 0; }}
extern "C" size_t nx_cpu_workspace(const void*) {{ return 0; }}
extern "C" size_t nx_cpu_training_workspace(const void*) {{ return 0; }}
extern "C" const char* nx_message(int32_t) {{ return ""; }}
extern "C" size_t nx_norm_size() {{ return 88; }}
extern "C" const char* nx_cpu_target() {{ return "NONE"; }}
extern "C" void* nx_pool_create(int32_t) {{ static int pool; return &pool; }}
extern "C" const void* nx_pool_threads(void* pool) {{ return pool; }}
extern "C" void* nx_team_create(void*, int32_t) {{ return nullptr; }}
extern "C" const void* nx_team_threads(void* team) {{ return team; }}
{more}
"""
FLUSHING = """
__attribute__((constructor)) static void flush() { __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); }
"""
DYING = """
#include <cstdlib>
__attribute__((constructor)) static void die() { std::abort(); }
"""


def hollow(compiled: Compile, version: int = ABI_VERSION, more: str = "") -> Path:
    return compiled(HOLLOW.format(version=version, more=more))


def tried(library: Path, **how: Any) -> Diagnosis:
    return examine(library, trust=True, **how)


def failures(diagnosis: Diagnosis) -> dict[str, str]:
    return {check.name: check.words for check in diagnosis.checks if check.state == "failed"}


@pytest.mark.parametrize("name", ["kernels", "onnxruntime"])
def test_built_library_is_healthy(name: str) -> None:
    path = plugins.find(name)
    if path is None:
        pytest.skip(f"needs {plugins.path_of(name)}, which is not built: make plugins")
    diagnosis = examine(path)
    assert diagnosis.healthy, diagnosis.first_failure
    assert diagnosis.component == name
    (smoke,) = [check for check in diagnosis.checks if check.name == "smoke test"]
    assert smoke.state == "good"
    assert smoke.words.startswith("5 norms")


def test_text_file_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "notes.so").write_text("not a library\n")
    assert failures(examine(tmp_path / "notes.so")) == {"file": "is no ELF file"}


@pytest.mark.parametrize("length", [30, 100, 3000])
def test_library_that_is_cut_off_is_told_from_a_whole_one(length: int, compiled: Compile, tmp_path: Path) -> None:
    whole = compiled("int nothing;").read_bytes()
    (tmp_path / "cut.so").write_bytes(whole[:length])
    (words,) = failures(examine(tmp_path / "cut.so")).values()
    assert "cut off" in words


def test_library_without_symbols_is_another_library(compiled: Compile) -> None:
    found = failures(examine(compiled("int nothing;")))
    assert "no entry point of normexport" in found["symbols"]


def test_missing_symbols_are_named(compiled: Compile) -> None:
    library = compiled('#include <cstdint>\nextern "C" int32_t nx_abi_version() { return 1; }')
    assert failures(tried(library.rename(library.with_name("libnormexport_kernels.so")))) == {
        "symbols": "does not export nx_cpu_norm, nx_cpu_workspace, nx_cpu_target, nx_norm_size, nx_check, nx_message, "
        "nx_pool_create, nx_pool_threads"
    }


def test_other_interface_is_found_before_anything_is_called(compiled: Compile) -> None:
    found = failures(tried(hollow(compiled, version=ABI_VERSION + 1)))
    assert list(found) == ["interface"]
    assert f"version {ABI_VERSION + 1}" in found["interface"]


def test_kernels_that_compute_nothing_fail_the_smoke_test(compiled: Compile) -> None:
    assert "off the float64 reference" in failures(tried(hollow(compiled)))["smoke test"]


def test_quick_examination_leaves_the_smoke_test_out(compiled: Compile) -> None:
    assert tried(hollow(compiled), quick=True).healthy


def test_library_that_kills_its_process_is_a_finding(compiled: Compile) -> None:
    assert failures(tried(hollow(compiled, more=DYING))) == {"process": "ended by SIGABRT while loading it"}


def test_library_that_flushes_denormals_is_a_finding(compiled: Compile) -> None:
    if Elf(compiled("int nothing;", "libprobe.so")).machine != "x86_64":
        pytest.skip("the stand-in sets the control register of x86")
    found = failures(tried(hollow(compiled, more=FLUSHING), quick=True))
    assert "flush-to-zero" in found["denormals"]


def test_library_that_needs_what_is_not_there_says_what(compiled: Compile) -> None:
    found = failures(tried(hollow(compiled, more='extern "C" int nowhere(); int use() { return nowhere(); }')))
    assert "nowhere" in found["load"]


def test_library_for_another_machine_is_not_loaded(compiled: Compile, tmp_path: Path) -> None:
    data = bytearray(hollow(compiled).read_bytes())
    data[18:20] = struct.pack("<H", 0xF3)  # RISC-V
    (tmp_path / "foreign.so").write_bytes(data)
    diagnosis = tried(tmp_path / "foreign.so")
    assert "machine 243" in failures(diagnosis)["machine"]
    assert "load" not in {check.name for check in diagnosis.checks}


def test_absent_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no file"):
        examine(tmp_path / "absent.so")


MARKING = """
#include <cstdio>
__attribute__((constructor)) static void mark() {{ if (FILE* file = std::fopen("{marker}", "w")) std::fclose(file); }}
"""


def test_a_library_from_elsewhere_is_read_and_not_loaded(compiled: Compile, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    library = hollow(compiled, more=MARKING.format(marker=marker))
    diagnosis = examine(library)
    assert {check.name: check.words for check in diagnosis.checks}["load"].endswith("--trust loads and tries it")
    assert not diagnosis.tried
    assert not marker.exists()
    assert tried(library, quick=True).tried
    assert marker.exists()


def test_the_library_in_use_is_loaded_under_any_of_its_names(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = hollow(compiled).rename(tmp_path / "libnormexport_kernels.so")
    (tmp_path / "other.so").symlink_to(library)
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    assert {check.name: check.words for check in examine(tmp_path / "other.so", quick=True).checks}["load"] == "loads"


def test_the_child_imports_nothing_from_the_working_folder(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ctypes", "json", "numpy", "normexport", "runpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    assert tried(hollow(compiled), quick=True).healthy
    assert not (tmp_path / "marker").exists()


SAYING = """
#include <cstdio>
__attribute__((constructor)) static void say() {{ std::puts("{line}"); std::fflush(stdout); }}
"""


@pytest.mark.parametrize(
    "line", ['{\\"name\\": 1}', '{\\"name\\": [[', '{\\"name\\": \\"load\\", \\"state\\": \\"odd\\"}', "\\xff\\x1b[2J"]
)
def test_what_a_library_writes_itself_is_no_finding(line: str, compiled: Compile) -> None:
    assert tried(hollow(compiled, more=SAYING.format(line=line)), quick=True).healthy


def test_exports_needs_and_versions_are_read_from_the_file(compiled: Compile) -> None:
    elf = Elf(hollow(compiled, more='#include <cstdio>\nextern "C" void speak() { std::puts("x"); }'))
    assert {"nx_abi_version", "nx_check", "speak"} <= elf.exported
    assert "puts" not in elf.exported
    assert "libc.so.6" in elf.needed
    assert any(version.startswith("GLIBC_2.") for version in elf.versions_needed)


def test_newest_version_counts_by_number_and_not_by_letter() -> None:
    assert newest(frozenset({"GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.2.5", "GLIBCXX_3.4.30"}), "GLIBC") == "2.34"
    assert newest(frozenset({"GCC_3.0"}), "GLIBC") is None


def fat_binary(*entries: tuple[int, int]) -> bytes:
    """CUDA's container: (kind, architecture) entries with headers of 64 and payloads of 8 bytes."""
    body = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, 8) + bytes(12) + struct.pack("<I", architecture) + bytes(32 + 8)
        for kind, architecture in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_cuda_architectures_are_read_from_the_fat_binaries(compiled: Compile) -> None:
    first, second = fat_binary((2, 75), (2, 90)), fat_binary((2, 90), (2, 120), (1, 120))
    data = ", ".join(str(byte) for byte in first + bytes(8) + second)
    text = f'__attribute__((section(".nv_fatbin"), used)) static const unsigned char code[] = {{{data}}};'
    codes = Elf(compiled(text)).cuda
    assert [(code.architecture, code.ptx) for code in codes] == [(75, False), (90, False), (120, False), (120, True)]
    diagnosis = examine(compiled(text, "libcode.so"))
    assert diagnosis.cuda == ("sm_75", "sm_90", "sm_120", "compute_120")


def test_damaged_libraries_never_crash_the_reader(compiled: Compile, tmp_path: Path) -> None:
    rng = random.Random(0)
    whole = compiled('#include <cstdio>\nextern "C" void speak() { std::puts("x"); }').read_bytes()
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(40):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
        (tmp_path / "damaged.so").write_bytes(data)
        try:
            Elf(tmp_path / "damaged.so")
        except NotElf:
            refused += 1
    assert 0 < refused < 300


def test_mutated_headers_are_refused_or_read_and_never_hang(compiled: Compile, tmp_path: Path) -> None:
    """Bytes of the header and of the section table, where all offsets, sizes and counts are."""
    rng, outcomes = random.Random(1), set()
    whole = compiled('#include <cstdio>\nextern "C" void speak() { std::puts("x"); }').read_bytes()
    (table,) = struct.unpack_from("<Q", whole, 40)
    places = [*range(4, 64), *range(table, len(whole))]
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.sample(places, 3):
            data[place] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256)])
        (tmp_path / "damaged.so").write_bytes(data)
        outcomes.add(examine(tmp_path / "damaged.so").healthy)
    assert False in outcomes


@pytest.mark.parametrize("name", [".dynsym", ".dynamic", ".gnu.version_r", ".dynstr", ".nv_fatbin"])
@pytest.mark.parametrize("offset", [2**63, 2**64 - 1, 2**62, 1 << 40])
def test_a_section_that_lies_beyond_everything_is_damage(
    name: str, offset: int, compiled: Compile, tmp_path: Path
) -> None:
    text = '__attribute__((section(".nv_fatbin"), used)) static const char code[] = "code"; int nothing;'
    whole = bytearray(compiled(f"#include <cstdio>\n{text} void speak() {{ std::puts(code); }}").read_bytes())
    (table,), (_, count, names) = struct.unpack_from("<Q", whole, 40), struct.unpack_from("<HHH", whole, 58)
    (strings,) = struct.unpack_from("<Q", whole, table + names * 64 + 24)
    for at in range(table, table + count * 64, 64):
        (begin,) = struct.unpack_from("<I", whole, at)
        if whole[strings + begin :].startswith(name.encode() + b"\0"):
            struct.pack_into("<Q", whole, at + 24, offset)
            break
    else:
        pytest.fail(f"the library has no {name}")
    (tmp_path / "x.so").write_bytes(whole)
    found = examine(tmp_path / "x.so")
    assert found.healthy is False
    assert "cut off or damaged" in str(failures(found)) or name == ".nv_fatbin"


def test_a_table_that_leads_back_to_one_long_name_is_refused(compiled: Compile, tmp_path: Path) -> None:
    """A million symbols, each the same name of 60,000 letters: 60 GB of text in a file of 24 MB."""
    whole = bytearray(compiled("int nothing;").read_bytes())
    (table,), (size, count) = struct.unpack_from("<Q", whole, 40), struct.unpack_from("<HH", whole, 58)
    sections = [list(struct.unpack_from("<IIQQQQIIQQ", whole, table + at * size)) for at in range(count)]
    (symbols,) = [at for at, section in enumerate(sections) if section[1] == 11]  # SHT_DYNSYM
    names = sections[symbols][6]
    sections[names][4:6] = len(whole), 60_001
    sections[symbols][4:6] = len(whole) + 60_001, 24_000_000
    for at, section in enumerate(sections):
        struct.pack_into("<IIQQQQIIQQ", whole, table + at * size, *section)
    whole += b"a" * 60_000 + b"\0" + struct.pack("<IBBHQQ", 0, 0x12, 0, 1, 0, 0) * 1_000_000
    (tmp_path / "x.so").write_bytes(whole)
    assert "more entries than a library can have" in failures(examine(tmp_path / "x.so"))["file"]
