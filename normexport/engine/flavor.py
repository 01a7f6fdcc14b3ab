"""The two flavours of TensorRT that build engines, and what each can build for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from normexport.dtypes import FLOAT8
from normexport.errors import EngineError, MissingComponent, UsageError
from normexport.text import one_line

#: Builds for the GPU of this machine.
CURRENT = "current"
#: Of TensorRT for RTX 1.7 on older ones: "Cannot compile for target(s) sm86, because the model contains HW-specific
#: datatypes: fp8_e4m3".
_FLOAT8_SINCE = 89


@dataclass(frozen=True)
class Flavor:
    """One flavour.

    Attributes:
        name: as files and options name it, "tensorrt-rtx".
        title: as prose names it.
        module: its Python module.
        libraries: the Python package that holds the shared libraries; where it is missing, they are the system's.
        link: the name under which the ONNX parser opens the runtime library once a plugin is created.
        install: the command that installs it.
        targets: compute capabilities it builds for anywhere; empty: it builds for the GPU at hand only.
        not_by_default: targets for which not every network can be built.
        lacks: options of EngineConfig that it does not have.
        embeds_anywhere: plugins can be put into any plan, not only into version-compatible ones.
        caches_at_runtime: it compiles kernels as it opens a plan, and can keep them in a file.
    """

    name: str
    title: str
    module: str
    libraries: str
    link: str
    install: str
    targets: tuple[str, ...] = ()
    not_by_default: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    embeds_anywhere: bool = False
    caches_at_runtime: bool = False

    @property
    def short(self) -> str:
        """As the command line names it: "rtx"."""
        return self.name.removeprefix("tensorrt-")

    @property
    def default_targets(self) -> tuple[str, ...]:
        """Every target that serves every network, else the GPU at hand."""
        return tuple(target for target in self.targets if target not in self.not_by_default) or (CURRENT,)


RTX = Flavor(
    "tensorrt-rtx",
    "TensorRT for RTX",
    "tensorrt_rtx",
    "tensorrt_rtx_libs",
    "libtensorrt_rtx.so",
    "run: pip install 'normexport[rtx]'",
    ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
    ("sm75",),  # it has no float32 matrix multiplication there: float16 networks only
    ("version_compatible", "hardware_compatible"),
    embeds_anywhere=True,
    caches_at_runtime=True,
)
TENSORRT = Flavor(
    "tensorrt",
    "TensorRT",
    "tensorrt",
    "tensorrt_libs",
    "libnvinfer.so",
    "run, on a machine with an NVIDIA GPU: pip install 'normexport[tensorrt]', with NVIDIA's own package index beside "
    "(--extra-index-url); or leave --flavor out: TensorRT for RTX builds without a GPU",
)

FLAVORS: dict[str, Flavor] = {each.name: each for each in (RTX, TENSORRT)}
_SHORT = {each.short: each.name for each in FLAVORS.values()}


def flavor(name: str) -> Flavor:
    """The flavour called `name`; "rtx" is short for "tensorrt-rtx".

    Raises:
        UsageError: there is none.
    """
    try:
        return FLAVORS[_SHORT.get(name, name)]
    except KeyError:
        raise UsageError(f"flavor {name!r}", "does not exist", f"choose rtx or {', '.join(FLAVORS)}") from None


def is_installed(which: Flavor) -> bool:
    """Whether the flavour's Python module is there; a folder of that name on the path is none."""
    spec = find_spec(which.module)
    return spec is not None and spec.origin is not None


def require(which: Flavor) -> None:
    """Refuse to go on where the flavour's Python module is not installed.

    Raises:
        MissingComponent: it is not.
    """
    if not is_installed(which):
        raise MissingComponent(which.module, "is not installed", which.install)


def cant_be_loaded(which: Flavor, cause: str) -> MissingComponent:
    """The error where the flavour's Python module is there and its import fails, say on a library that is not."""
    return MissingComponent(which.module, f"is installed, and can't be loaded ({cause})", which.install)


@contextmanager
def loading(which: Flavor) -> Iterator[None]:
    """Import the flavour's Python module in here.

    Raises:
        MissingComponent: a part of it is missing or damaged, whatever its import raises.
    """
    try:
        yield
    except Exception as error:  # an import runs the vendor's code, which can raise anything
        raise cant_be_loaded(which, one_line(str(error) or type(error).__name__)) from error


def check_targets(which: Flavor, targets: tuple[str, ...]) -> None:
    """Refuse what the flavour does not build for.

    Raises:
        EngineError: a target that is unknown or named twice.
    """
    known = (*which.targets, CURRENT)
    for target in targets:
        if target not in known:
            remedy = f"choose among {', '.join(known)}" if which.targets else "leave --target out"
            raise EngineError(f"target {target}", f"is not one that {which.title} builds for", remedy)
    if len(set(targets)) < len(targets):
        raise EngineError("targets", f"{', '.join(targets)} name one twice", "name each once")
    if CURRENT in targets and len(targets) > 1:
        raise EngineError("targets", "current can't be joined with others", "name the compute capability instead")


def check_float8(targets: tuple[str, ...]) -> None:
    """Refuse GPUs that do not multiply 8-bit floating numbers; of the GPU at hand nothing is known here.

    Raises:
        EngineError: one is of a compute capability before 8.9.
    """
    for target in targets:
        if not has_float8(target):
            remedy = f"take sm{_FLOAT8_SINCE} or later, or convert with --precision int8"
            raise EngineError(f"target {target}", f"has no {FLOAT8.short}, which came with sm{_FLOAT8_SINCE}", remedy)


def has_float8(target: str) -> bool:
    """Whether a target multiplies 8-bit floating numbers; the GPU at hand may."""
    return target == CURRENT or int(target.removeprefix("sm")) >= _FLOAT8_SINCE


def runtime_library(which: Flavor) -> Path | None:
    """The shared library that `link` should lead to, where a Python package brings it."""
    spec = find_spec(which.libraries)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [file for folder in folders for file in sorted(Path(folder).glob(f"{which.link}.*"))]
    return found[0] if found else None
