"""What attackers write where a name, a number or a type is expected. Whatever runs code makes a file `OWNED`."""

from __future__ import annotations

import pickle
import struct
from typing import Any

from tests.fuzz.dice import Dice

#: The marker: a file or folder of this name means that code of the file was run, or a path of its choice written.
MARKER = "OWNED"

#: A module that stands in the working folder and makes the marker when it is imported.
MODULE = "owned_module"
MODULE_SOURCE = f"import os\nos.makedirs({MARKER!r}, exist_ok=True)\n\n\ndef f(*args, **kwargs):\n    pass\n"

#: A file outside the folder of the case that nothing may read, and what stands in it.
SECRET_FILE = "../secret.bin"
SECRET = b"NORMEXPORT-SECRET" * 64

_RUN = f"__import__('os').makedirs('{MARKER}')"

#: Python that runs as an expression, as a name written into source, or as a line of its own.
CODE = (
    _RUN,
    f"x={_RUN}",
    f"x: {_RUN}",
    f"x, y={_RUN}",
    f"x): pass\n{_RUN}\ndef g(",
    f"a\r    {_RUN}\r    b",
    f"a\n    {_RUN}\n    b",
    f"a\x0c{_RUN}",
    f"a\u2028{_RUN}",
    f"a#\r{_RUN}",
    f"a; {_RUN}; b",
    f"f'{{{_RUN}}}'",
    f"'+{_RUN}+'",
    f'"+{_RUN}+"',
    f'"""\n{_RUN}\n"""',
    f"[{_RUN} for _ in (1,)]",
    f"(lambda: {_RUN})()",
    f"(x := {_RUN})",
    f"L['x'].size()[{_RUN}] >= 0",
    f"L['x'].__class__.__init__.__globals__['__builtins__']['exec'](\"{_RUN}\")",
    f"Symbol('s0', positive={_RUN})",
    f"Symbol(\"s0'+{_RUN}+'\")",
    f'sympify("{_RUN}")',
    f'parse_expr("{_RUN}")',
    f"torch.ops.aten.add.Tensor({_RUN})",
    f"getattr(__import__('os'), 'makedirs')('{MARKER}')",
)

#: Names that Python, PyTorch or a file system reads in its own way.
NAMES = (
    "", " ", ".", "..", "...", "a..b", ".a", "a.", "a b", "0a", "1", "-1", "a-b", "a/b", "a\\b", "/a", "../a", "a\x00b",
    "\x00", "\n", "\r", "\r\n", "\t", "a\x1b[31mb", "a\u202eb", "\ufeffa", "\ud800", "é", "ſ", "ａ", "𝕊", "名前", "K",
    "µ",
    "e\u0301", "🙂", "class", "def", "import", "lambda", "None", "True", "self", "print", "exec", "eval", "torch", "L",
    "args", "kwargs", "_", "__", "__class__", "__dict__", "__init__", "__builtins__", "__import__", "forward",
    "state_dict", "training", "_modules", "_parameters", "_buffers", "parameters", "modules", "T", "grad", "data",
    "device", "module", "getattr", "_forward_hooks", "__torch_function__", "__reduce_ex__", "__deepcopy__", "x" * 5000,
    "a." * 2000 + "a", "%s%n", "{}", "{0.__class__}", "${x}", "$(x)", "'", '"', "'''", "\\", "`", "nul", "con", "a:b",
    "normexport", "out", "model.onnx", "x,y", "x=1", "*x", "**x", "x:int",
)  # fmt: skip

#: Dotted names that import or call something.
TARGETS = (
    "os.mkdir", "os.makedirs", "os.system", "posix.mkdir", "builtins.eval", "builtins.exec", "builtins.getattr",
    "builtins.__import__", "subprocess.Popen", "torch.load", "torch.hub.load", "torch.ops.load_library",
    "torch.classes.load_library", "torch.utils.cpp_extension.load_inline", "torch._C._jit_set_profiling_mode",
    "torch.ops.aten.from_file.default", "torch.ops.aten.fill_.Scalar", "torch.ops.aten.save.default",
    "torch.ops.aten.set_.source_Tensor", "torch.ops.aten.resize_.default", "torch.ops.aten.as_strided.default",
    "torch.ops.aten._assert_async.msg", "torch.ops.aten.manual_seed.default",
    "torch.ops.prims.convert_element_type.default", "torch.ops.inductor._alloc_from_pool.default",
    "torch.ops.higher_order.cond", "torch.ops.higher_order.map_impl",
    "torch.ops.higher_order.triton_kernel_wrapper_mutation", "torch.ops.higher_order.run_const_graph",
    "torch.ops.higher_order.call_torchbind", "torch.ops.aten.__class__", "torch.ops.__class__.__init__",
    "torch.ops.aten", "torch.ops.aten.add", "torch.ops.aten.add.nothing", "torch.ops.nothing.at.all",
    "torch.ops.debug.nothing", "torch.ops.c10d.barrier.default", "torch.ops.rngprims.philox_rand.default",
    "torch.ops.aten.full.default", "torch.ops.aten.expand.default", "torch.ops.aten.repeat.default",
    "torch.ops.aten.arange.default", "torch.ops.aten.eye.default", "torch.ops.aten.one_hot.default",
    "torch.ops.aten.empty.memory_format", "torch.sym_sum", "torch._sym_sqrt", "math.factorial", "math.comb",
    "_operator.pow", "_operator.lshift", "_operator.mul", "_operator.attrgetter", "_operator.methodcaller",
    "operator.setitem", f"{MODULE}.f", f"{MODULE}", "torch.nn.Module", "torch.cond", "sys.exit", "os._exit", "os.abort",
    "time.sleep", "normexport.nn.L1BatchNorm2d", "torch.ops.normexport.live_norm",
)  # fmt: skip

#: Globals for pickles: what runs code, what allocates, what looks plain.
GLOBALS = (
    ("os", "mkdir"), ("posix", "mkdir"), ("os", "system"), ("builtins", "eval"), ("builtins", "exec"),
    ("__builtin__", "eval"), ("builtins", "getattr"), ("builtins", "setattr"), ("builtins", "map"),
    ("builtins", "print"), ("builtins", "open"), ("io", "open"), ("builtins", "range"), ("builtins", "bytes"),
    ("builtins", "bytearray"), ("builtins", "list"), ("builtins", "tuple"), ("builtins", "set"),
    ("builtins", "frozenset"), ("builtins", "dict"), ("builtins", "complex"), ("builtins", "slice"),
    ("builtins", "str"), ("builtins", "int"), ("builtins", "object"), ("builtins", "type"), ("functools", "partial"),
    ("operator", "attrgetter"), ("operator", "methodcaller"), ("collections", "OrderedDict"),
    ("collections", "defaultdict"), ("collections", "Counter"), ("collections", "deque"), ("argparse", "Namespace"),
    ("types", "SimpleNamespace"), ("types", "FunctionType"), ("types", "CodeType"), ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"), ("copyreg", "_reconstructor"), ("_codecs", "encode"), ("codecs", "decode"),
    ("torch", "load"), ("torch", "FloatStorage"), ("torch", "ByteStorage"), ("torch", "QUInt8Storage"),
    ("torch", "Size"), ("torch", "device"), ("torch", "zeros"), ("torch", "Tensor"), ("torch", "float64"),
    ("torch.storage", "UntypedStorage"), ("torch.storage", "_load_from_bytes"), ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_qtensor"), ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._utils", "_rebuild_nested_tensor"), ("torch._utils", "_rebuild_wrapper_subclass"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("torch.serialization", "_get_layout"),
    ("torch.nn.modules.linear", "Linear"), ("torch.nn.modules.container", "Sequential"),
    ("torch.nn.modules.conv", "Conv2d"), ("torch.nn.modules.batchnorm", "BatchNorm2d"),
    ("torch.nn.modules.batchnorm", "LazyBatchNorm2d"), ("torch.nn.modules.sparse", "Embedding"),
    ("torch.nn.modules.rnn", "LSTM"), ("torch.nn.modules.module", "Module"),
    ("torch.nn.modules.lazy", "LazyModuleMixin"), ("torch.nn.parameter", "Parameter"),
    ("torch.nn.parameter", "UninitializedParameter"), ("torch.nn.utils.weight_norm", "WeightNorm"),
    ("torch.nn.functional", "relu"), ("torch.fx.graph_module", "reduce_graph_module"),
    ("torch.jit._script", "ScriptModule"), ("torch.jit._pickle", "build_intlist"),
    ("torch.distributed.rpc", "rpc_sync"), ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy._core.multiarray", "scalar"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"), ("normexport.nn.batch", "L1BatchNorm2d"),
    ("normexport.nn.running", "RunningNorm"), ("normexport.nn", "L1BatchNorm2d"), (MODULE, "f"),
    ("no.such.module", "thing"), ("torch", "nn.Module"), ("", ""), ("torch.nn", ""), ("os\n", "mkdir"), ("é", "ü"),
)  # fmt: skip

#: Sizes, offsets and counts that overflow, allocate or divide by zero somewhere.
INTEGERS = (
    0, 1, -1, 2, 3, 7, 8, 9, 63, 64, 127, 128, 255, 256, 1000, 32767, 65535, 65536, 10**6, 2**24, 10**8, 2**31 - 1,
    2**31, -(2**31), 2**32 - 1, 2**32, 10**10, 10**12, 10**15, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64,
    10**30, -2, -8, 16, 100_000,
)  # fmt: skip
FLOATS = (
    0.0,
    -0.0,
    1.0,
    0.5,
    -1.5,
    1e-5,
    1e-300,
    5e-324,
    1e38,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    2.0**63,
)


def text(dice: Dice) -> str:
    """A string for any place."""
    return dice.one_of(dice.choices((CODE, NAMES, TARGETS), (45, 35, 20))[0])


def name(dice: Dice) -> str:
    """A string for the place of a name; half of them are code."""
    return dice.one_of(CODE if dice.chance(55) else NAMES)


def integer(dice: Dice) -> int:
    """An integer for any place."""
    return dice.one_of(INTEGERS)


def member(dice: Dice) -> bytes:
    """A name for a member of an archive: no UTF-8, paths, other case, control characters, very long."""
    if dice.chance(15):
        return dice.one_of((b"\xff\xfe", b"a\xc3", b"\x80" * 20, b"archive/\xe9", b"\xed\xa0\x80", b"caf\xe9/data.pkl"))
    if dice.chance(20):
        return (f"../{MARKER}", f"/tmp/{MARKER}", f"a/../../{MARKER}", "x" * 65535, "a/" * 30000)[
            dice.randrange(5)
        ].encode()
    return text(dice).encode("utf-8", "surrogatepass")[:65535]


def payload(dice: Dice) -> bytes:
    """A pickle that makes the marker when it is read in full."""
    protocol = dice.one_of((0, 2, 4))
    return pickle.dumps(_Runs(dice.one_of((0, 1, 2))), protocol)


class _Runs:
    """Pickled as a call that makes the marker."""

    def __init__(self, how: int) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return ((os.mkdir, (MARKER,)), (eval, (_RUN,)), (exec, (f"import os; os.mkdir({MARKER!r})",)))[self.how]


def little_endian(dice: Dice, value: int) -> bytes:
    """The integer as some field of 1 to 8 bytes would hold it."""
    size = dice.one_of((1, 2, 4, 8))
    return struct.pack("<Q", value % 2**64)[:size]
