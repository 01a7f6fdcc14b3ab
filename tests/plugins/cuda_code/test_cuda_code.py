"""What the compiled CUDA kernels are made of: evidence that needs no GPU."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.plugins.cuda_code import cuda_build

pytestmark = pytest.mark.slow

NO_DISASSEMBLER = "nvdisasm is not on this machine: install the package nvidia-cuda-nvdisasm"
FLOATS = {"float32": 4, "float16": 8, "bfloat16": 8}  # elements of 16 bytes
COLD = ("bound_topk", "finish_topk", "int_finish_topk")  # one block per statistic, few values


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    reason = cuda_build.missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def code() -> Callable[[str, str], dict[str, list[str]]]:
    if cuda_build.nvdisasm() is None:
        pytest.skip(NO_DISASSEMBLER)
    return cuda_build.code


def count(instructions: list[str], pattern: str) -> int:
    return sum(bool(re.search(pattern, instruction)) for instruction in instructions)


@pytest.mark.parametrize("arch", cuda_build.ARCHITECTURES)
def test_every_kernel_compiles_without_a_warning(arch: str) -> None:
    found = {record["kernel"] for record in cuda_build.usage() if record["arch"] == arch}
    # Five kinds by every vector of a channel (2 of float32, 3 of each other), three of many channels by 16 bytes.
    assert len([kernel for kernel in found if kernel.startswith("onchip")]) == 5 * (2 + 3 + 3 + 3) + 3 * 3
    assert {"sum_extremes<float32, 4, true, true>", "apply_line<bfloat16, 8, false>", "int_apply_table<16>"} <= found


def test_integer_kernels_compile_without_a_spill_for_the_data_centre_gpus_after_sm_90() -> None:
    arch = "100"
    if int(arch) not in cuda_build.known():
        pytest.skip(f"the nvcc of this machine does not know sm_{arch}")
    hot = [each for each in cuda_build.usage_of("int8", arch) if not each["kernel"].startswith(COLD)]
    assert len(hot) > 30
    assert [each for each in hot if each["spills"] or each["stack"]] == []


def test_no_hot_kernel_spills_or_uses_local_memory() -> None:
    hot = [record for record in cuda_build.usage() if not record["kernel"].startswith(COLD)]
    assert len(hot) > 100
    assert [record for record in hot if record["spills"] or record["stack"]] == []


def test_the_table_of_the_build_names_kernels_and_architectures() -> None:
    done = cuda_build.table()
    assert done.returncode == 0, done.stderr
    assert "sm_80" in done.stdout.splitlines()[0]
    assert re.search(r"^apply_line<float16, 8, true> +\d+ +\d+$", done.stdout, re.M)


def test_two_blocks_fit_on_a_multiprocessor() -> None:
    for record in cuda_build.usage():
        threads = 320 if record["kernel"].startswith("onchip") else 256
        if record["kernel"] != "int_deviations<16, false>":  # 48 sums per thread
            assert 2 * threads * -(-record["registers"] // 8) * 8 <= 65536, record


@pytest.mark.parametrize("arch", cuda_build.ARCHITECTURES)
@pytest.mark.parametrize("kind", FLOATS)
def test_floats_are_read_and_written_sixteen_bytes_at_a_time(
    code: Callable[[str, str], dict[str, list[str]]], kind: str, arch: str
) -> None:
    kernels = code(kind, arch)
    for single in ("true", "false"):
        name = f"{kind}, {FLOATS[kind]}, {single}"
        for kernel in (f"sum_extremes<{name}, true>", f"deviations<{name}, false>", f"deviations<{name}, true>"):
            assert count(kernels[kernel], r"\bLDG\.E\.128") >= 4, kernel  # four in flight
        apply = kernels[f"apply_line<{name}>"]
        assert count(apply, r"\bLDG\.E\.128") >= 4
        assert count(apply, r"\bSTG\.E\.128") >= 2


@pytest.mark.parametrize("arch", cuda_build.ARCHITECTURES)
def test_bytes_are_read_and_written_sixteen_at_a_time(
    code: Callable[[str, str], dict[str, list[str]]], arch: str
) -> None:
    kernels = code("int8", arch)
    for kernel in ("int_sums<16, true, 0>", "int_deviations<16, true>", "int_histograms<16>"):
        assert count(kernels[kernel], r"\bLDG\.E\.128") >= 4, kernel
    for kernel in ("int_apply_table<16>", "int_apply_line<16>"):
        assert count(kernels[kernel], r"\bLDG\.E\.128") >= 4, kernel
        assert count(kernels[kernel], r"\bSTG\.E\.128") >= 4, kernel


@pytest.mark.parametrize("arch", cuda_build.ARCHITECTURES)
@pytest.mark.parametrize("kind", [*FLOATS, "int8"])
def test_no_instruction_touches_local_memory(
    code: Callable[[str, str], dict[str, list[str]]], kind: str, arch: str
) -> None:
    for kernel, instructions in code(kind, arch).items():
        if not kernel.startswith(COLD):
            assert count(instructions, r"\b(LDL|STL)\b") == 0, kernel


@pytest.mark.parametrize("arch", cuda_build.ARCHITECTURES)
@pytest.mark.parametrize("kind", [*FLOATS, "int8"])
def test_on_chip_kernels_copy_asynchronously_past_the_registers(
    code: Callable[[str, str], dict[str, list[str]]], kind: str, arch: str
) -> None:
    def by_vectors_of(elements: int) -> list[list[str]]:
        starts = rf"onchip_\w+<{'' if kind == 'int8' else f'{kind}, '}{elements}\b"
        return [text for kernel, text in code(kind, arch).items() if re.match(starts, kernel)]

    widest = by_vectors_of(16 if kind == "int8" else FLOATS[kind])
    assert len(widest) == (5 if kind == "int8" else 8)
    for instructions in widest:
        assert count(instructions, r"\bLDGSTS\.E\.BYPASS\.128") >= 1
        assert count(instructions, r"\bLDG\.E\.128") == 0  # x goes to shared memory alone
        assert count(instructions, r"\bSTG\.E\.EF\.128") >= 1
    narrower = by_vectors_of(1 if kind == "float32" else 4)  # of 4 or 8 bytes
    assert len(narrower) == 5
    assert all(count(instructions, r"\bLDGSTS\.E") >= 1 for instructions in narrower)


def test_on_chip_kernels_use_clusters_on_sm_90_alone(code: Callable[[str, str], dict[str, list[str]]]) -> None:
    for arch, expected in (("90", True), ("80", False)):
        for kind in ("float16", "int8"):
            for kernel, instructions in code(kind, arch).items():
                if kernel.startswith("onchip"):
                    assert (count(instructions, r"\bUCGABAR_ARV") > 0) == expected, (kernel, arch)
    assert "mapa.u64" in cuda_build.ptx("float16")


@pytest.mark.parametrize("arch", cuda_build.ARCHITECTURES)
def test_int8_statistics_take_four_elements_per_instruction(
    code: Callable[[str, str], dict[str, list[str]]], arch: str
) -> None:
    kernels = code("int8", arch)
    # Sixteen bytes of one channel: four dp4a for the sum, four vectors in flight.
    assert count(kernels["int_sums<16, true, 0>"], r"\bIDP\.4A\.S8\.S8") >= 16
    assert count(kernels["int_deviations<16, true>"], r"\bVABSDIFF4\.U8") >= 16
    assert count(kernels["int_deviations<16, true>"], r"\bIDP\.4A\.U8\.U8") >= 16


def test_no_product_is_fused_with_a_sum_where_bytes_are_defined() -> None:
    text = cuda_build.ptx("int8")
    assert not re.search(r"\bfma\.rn\.f(32|64)", text)
    assert re.search(r"\bmul\.rn\.f32", text)
    assert re.search(r"\badd\.rn\.f32", text)


def test_floats_are_never_added_atomically() -> None:
    for kind in ("float16", "int8"):
        assert not re.search(r"\b(atom|red)\.[a-z.]*add[a-z.]*\.(f16|f32|f64|bf16)", cuda_build.ptx(kind))


def test_arithmetic_keeps_denormals_and_exact_division() -> None:
    for kind in ("float16", "int8"):
        assert not re.search(
            r"\b(div\.approx|div\.full|rcp\.approx|sqrt\.approx|[a-z]+\.(rn\.)?ftz\.f32)", cuda_build.ptx(kind)
        )
