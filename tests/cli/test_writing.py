"""Everything that normexport writes goes through `normexport.io.atomic`: told from the code, and seen from outside."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: Functions that may write, and why; all others call these.
WRITERS = {
    "normexport/io/atomic.py": "the home of writing",
    "normexport/io/hidden_folder.py": "the home of hidden folders",
    "normexport/io/weight_files.py remove_unread": "removes what the model before was written with",
    "normexport/verbs/report.py remove_page": "removes the page of the conversion before",
    "normexport/io/onnx_model.py save_onnx": "into temporary paths of replacing_all",
    "normexport/io/onnx_model.py write_data": "into a temporary path of its callers",
    "normexport/verbs/fold.py _write": "into a temporary path of replacing",
    "normexport/capsule/writing.py write": "into a temporary path of replacing",
    "normexport/bundle/write.py write_bundle": "into temporary paths of together",
    "normexport/bundle/run_model.py main": "the outputs; a script without normexport, which runs in a bundle",
    "normexport/verbs/run.py run": "into a temporary path of replacing",
    "normexport/narrowing/evidence.py _fill": "into temporary paths of replacing_all, and of a scratch folder",
    "normexport/timing/worker.py main": "to the pipe of its answers",
    "normexport/timing/elsewhere.py measure": "copies of files, into a scratch folder of the node",
    "normexport/timing/child.py _ask": "to the pipe of its requests",
    "normexport/io/numpy_files.py write_arrays": "into the file that its caller opened",
    "normexport/engine/build_plan.py build_engine": "into a temporary path of replacing_all",
    "normexport/engine/ep_context.py write_ep_context": "into a temporary path of build_engine's replacing_all",
    "normexport/engine/worker.py build": "into a temporary path that build_engine gives; a script without normexport",
    "normexport/engine/worker.py _keep_timings": "as build",
    "normexport/engine/builder_process.py __init__": "the log, into a scratch folder",
    "normexport/engine/builder_process.py _environment": "a link, into a scratch folder",
    "normexport/train/recording.py __init__": "opens a recording, to which a training run appends for hours",
    "normexport/train/recording.py go_to": "cuts a recording that is gone on with",
    "normexport/checkpoint/pt2/samples.py": "into memory",
    "normexport/runtime/guarded.py _answer": "nothing: it silences a copy of the process",
    "normexport/workers/own_cluster.py _hosted": "nothing: what Ray's C++ says lies in a file without a name",
    "normexport/workers/cluster_host.py main": "nothing: what Ray says on the way goes nowhere",
    "normexport/plugins/compile.py build": "the build's own folder, which CMake writes too",
    "normexport/plugins/compile.py _forget_other_generator": "as build",
    "normexport/plugins/compile.py _run": "as build",
    "normexport/plugins/compile.py _hold_build_lock": "as build",
}

#: Methods and functions that write, whatever they belong to.
_WRITING = {
    *("write_bytes", "touch", "mkdir", "makedirs", "unlink", "rmdir", "rmtree", "remove_dir", "rename", "renames"),
    *("symlink_to", "hardlink_to", "symlink", "link", "chmod", "chown", "umask", "truncate", "tofile", "savez"),
    *("savez_compressed", "savetxt", "copyfile", "copy2", "copytree", "move", "mkstemp", "mkdtemp", "dump_all"),
    *("NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "SpooledTemporaryFile", "copyfileobj"),
}
#: The same, where it stands behind one of these modules; elsewhere the words mean other things.
_BEHIND = {
    ("os", "replace"), ("os", "remove"), ("os", "open"), ("shutil", "copy"), ("np", "save"), ("torch", "save"),
    ("onnx", "save"), ("ir", "save"), ("json", "dump"), ("pickle", "dump"), ("memmap", "memmap"), ("np", "memmap"),
}  # fmt: skip


def writing_calls(file: Path) -> Iterator[tuple[str, str]]:
    """(innermost function, call) of everything in a file that writes to the file system."""

    def look(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            inside = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
            if isinstance(child, ast.Call) and _writes(child):
                yield inside, ast.unparse(child.func)
            if isinstance(child, ast.ImportFrom) and child.module in ("os", "shutil", "tempfile", "numpy"):
                yield from ((inside, name.name) for name in child.names if name.name in (*_WRITING, "replace", "save"))
            yield from look(child, inside)

    yield from look(ast.parse(file.read_text()), "")


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    if name == "write_text":  # `files.write_text(path, text)` is the way to write; `path.write_text(text)` is not
        return isinstance(call.func, ast.Attribute)
    if name == "open" and (owner, name) not in _BEHIND:
        words = [*call.args, *(keyword.value for keyword in call.keywords)]
        modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        return any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes)
    if name == "write_bytes":
        return isinstance(call.func, ast.Attribute)
    return isinstance(call.func, ast.Attribute) and (name in _WRITING or (owner, name) in _BEHIND)


def test_only_the_writers_write() -> None:
    found = set()
    for file in sorted([*(ROOT / "normexport").rglob("*.py"), *(ROOT / "tools" / "normexport_cli").rglob("*.py")]):
        name = str(file.relative_to(ROOT))
        for function, call in writing_calls(file):
            writer = name if name in WRITERS else f"{name} {function}"
            reading_only = call == "os.open" and name in _OPENS_TO_READ
            assert writer in WRITERS or reading_only, f"{writer} calls {call}: let it go through normexport.io.atomic"
            found.add(writer)
    assert set(WRITERS) <= found, "a writer that writes no more"


#: `os.open` serves reading here, with flags that the built-in one does not take.
_OPENS_TO_READ = ("normexport/io/external_data.py", "normexport/io/opening.py", "tools/normexport_cli/screen.py")


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "open(path, mode='xb')",
        "path.open('r+b')",
        "path.write_text('x')",
        "np.savez(path, x=x)",
        "torch.save(x, path)",
        "onnx.save(x, path)",
        "shutil.copy(a, b)",
        "os.replace(a, b)",
        "tempfile.mkdtemp()",
        "os.open(path, os.O_CREAT)",
        "array.tofile(path)",
        "json.dump(x, file)",
        "from shutil import copyfile",
    ],
)
def test_the_search_knows_what_writes(tmp_path: Path, code: str) -> None:
    (tmp_path / "some.py").write_text(f"def function():\n    {code}\n")
    ((function, _),) = writing_calls(tmp_path / "some.py")
    assert function == "function"


@pytest.mark.parametrize("code", ["open(path)", "path.open('rb')", "write_text(path, x)", "text.replace('a', 'b')"])
def test_the_search_lets_reading_pass(tmp_path: Path, code: str) -> None:
    (tmp_path / "some.py").write_text(code)
    assert list(writing_calls(tmp_path / "some.py")) == []


WATCHED = """
import atexit, json, os, sys
seen = []
def watch(event, args):
    if event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append(os.path.abspath(args[0]))
sys.addaudithook(watch)
atexit.register(lambda: print(json.dumps(seen), file=sys.stderr))
from normexport_cli.start import main
main()
"""


@pytest.mark.parametrize("command", ["fold", "convert", "export", "build"])
def test_no_file_is_opened_for_writing_outside_of_hidden_folders(
    command: str, made: Path, converted: Path, tmp_path: Path
) -> None:
    """Python's own audit, through all libraries: nothing is written at the place where it will lie."""
    if command == "build":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    source = converted / "model.onnx" if command in ("fold", "build") else made / "model.pt2"
    output = {"convert": "out", "build": "out/model.plan"}.get(command, "out/model.onnx")
    words = [command, source, "-o", output, *(("--target", "sm89") if command == "build" else ())]
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, *map(str, words)],
        cwd=tmp_path,
        env={**environment(), "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    opened = [Path(path) for path in json.loads(done.stderr.splitlines()[-1])]
    written = [path for path in opened if path.is_relative_to(tmp_path) and not path.is_relative_to(tmp_path / "tmp")]
    assert written, "nothing was seen"
    for path in written:
        assert path.relative_to(tmp_path / "out").parts[0].startswith(".normexport-"), path
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
