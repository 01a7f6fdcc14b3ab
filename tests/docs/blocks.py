"""The code blocks of a page, and what the comments in front of them say.

Three comments of Markdown, which no reader sees, stand in front of a block, one a line, with an empty line behind them:

    <!-- not run: gpu -->                                  none of it, for a reason of `REASONS`
    <!-- not run: gpu, normexport run model.plan -->       the lines alone that begin so
    <!-- ends: CHECKPOINT -->                              its last command leaves with that `ExitCode`
    <!-- not compared: timings -->                         what is printed below is not held to what is shown

A block that is fenced as `text` is what the block before it prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from markdown_it import MarkdownIt

from normexport.errors import ExitCode

#: Why a block may be left alone. Nothing else is a reason.
REASONS = {
    "gpu": "opens a plan, or measures, on a GPU",
    "nvcc": "compiles CUDA",
    "nvidia": "is a program of NVIDIA's own",
    "server": "asks a server that is running",
    "cluster": "needs Ray, Slurm, Kubernetes or a second machine",
    "install": "installs packages or fetches files from a network",
    "ci": "is what `make test` and `make demo` run, or compiles the libraries that the tests run with",
    "minutes": "takes minutes; tests of its own run the script or the command",
    "formula": "is no program but a formula, or the picture of one",
    "compiled": "is C++, which a test of its own compiles",
}
#: Why what is shown below a block may differ from what is printed.
VARYING = {
    "timings": "says which file is faster on the machine at hand",
    "machine": "says what the machine at hand has",
}
#: What a block without a language is: an indented one holds command lines.
_SHELL = {"", "bash", "sh"}
_LANGUAGES = {*_SHELL, "python", "yaml"}
_MARK = re.compile(r"<!-- (not run|not compared|ends): ([^\n]*?) -->")


class BadPage(ValueError):
    """A page whose marks or blocks mean nothing."""


@dataclass(frozen=True)
class Skip:
    """Lines that are left alone: all of a block, or those that begin with `words`."""

    reason: str
    words: str = ""


@dataclass(frozen=True)
class Block:
    """A block of code, and what the page promises of it.

    Attributes:
        line: the number of its first line in the page, from 1.
        language: "python", "yaml" or, for command lines, "bash".
        code: its lines.
        skips: what of it is not run.
        ends: the exit code of its last command.
        shown: what the page shows as its output; None: nothing.
        shown_at: the lines of the page in which that stands, from 0, the fences left out.
        varies: why that is not compared; None: it is.
    """

    line: int
    language: str
    code: str
    skips: tuple[Skip, ...] = ()
    ends: ExitCode = ExitCode.GOOD
    shown: str | None = None
    shown_at: tuple[int, int] | None = None
    varies: str | None = None

    @property
    def is_left_alone(self) -> bool:
        return any(not skip.words for skip in self.skips)


@dataclass
class _Marks:
    skips: list[Skip] = field(default_factory=list)
    ends: ExitCode = ExitCode.GOOD
    varies: str | None = None

    def __bool__(self) -> bool:
        return bool(self.skips or self.ends != ExitCode.GOOD or self.varies)


def read_blocks(page: str) -> list[Block]:
    """Every block of a page but those of output, in order.

    Raises:
        BadPage: a reason, an exit code or a language that there is none of; a mark in front of nothing, or of lines
            that the block does not have; output of nothing.
    """
    blocks: list[Block] = []
    marks = _Marks()
    for token in MarkdownIt("commonmark").parse(page):
        first = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            for kind, words in _MARK.findall(token.content):
                _add(marks, kind, words, first)
        elif token.type == "fence" and token.info.strip() == "text":
            if not blocks or blocks[-1].shown is not None or blocks[-1].is_left_alone:
                raise BadPage(f"line {first}: output of no block that is run")
            lines = (first, first + token.content.count("\n"))
            blocks[-1] = replace(blocks[-1], shown=token.content, shown_at=lines, varies=marks.varies)
            marks = _Marks()
        elif token.type in ("fence", "code_block"):
            blocks.append(_block(token.content, token.info.strip(), marks, first + (token.type == "fence")))
            marks = _Marks()
        elif marks:
            raise BadPage(f"line {first}: a mark in front of what is no block")
    if marks:
        raise BadPage("a mark at the end of the page")
    return blocks


def _add(marks: _Marks, kind: str, words: str, line: int) -> None:
    if kind == "ends":
        if words not in ExitCode.__members__:
            raise BadPage(f"line {line}: {words!r} is no exit code")
        marks.ends = ExitCode[words]
        return
    reason, _, beginning = words.partition(", ")
    known = REASONS if kind == "not run" else VARYING
    if reason not in known:
        raise BadPage(f"line {line}: {reason!r} is no reason for {kind!r}; there are {', '.join(known)}")
    if kind == "not run":
        marks.skips.append(Skip(reason, beginning))
    else:
        marks.varies = reason


def _block(code: str, language: str, marks: _Marks, line: int) -> Block:
    block = Block(line, "bash" if language in _SHELL else language, code, tuple(marks.skips), marks.ends)
    if language not in _LANGUAGES and not block.is_left_alone:
        raise BadPage(f"line {line}: nothing runs {language!r}; give a reason for leaving it alone")
    for skip in block.skips:
        if not any(each.startswith(skip.words) for each in code.splitlines()):
            raise BadPage(f"line {line}: no line begins with {skip.words!r}")
    return block


def steps_of(block: Block) -> Iterator[str]:
    """The command lines that are run: those of `normexport` one by one, what stands between them as one script."""
    script: list[str] = []
    lines = re.sub(r" *\\\n\s*", " ", block.code).splitlines()
    for line in lines:
        if any(line.startswith(skip.words) for skip in block.skips):
            continue
        if not re.match(r"normexport ", line):
            script.append(line)
            continue
        if any(each.strip() for each in script):
            yield "\n".join(script)
        script = []
        yield line
    if any(each.strip() for each in script):
        yield "\n".join(script)


def promised(block: Block) -> str | None:
    """What it has to print: the output that is shown, or the comments behind all of its `print(...)`."""
    if block.shown is not None:
        return block.shown if block.varies is None else None
    if block.language != "python":
        return None
    prints = re.findall(r"^\s*print\(.*", block.code, re.MULTILINE)
    comments = re.findall(r"^\s*print\(.*\)  # (.*)$", block.code, re.MULTILINE)
    return "\n".join(comments) if prints and len(comments) == len(prints) else None
