"""What the stages say of their work through Python's logging, which is silent until a program listens.

    import logging
    logging.basicConfig(level="INFO")  # "DEBUG": every file that is opened, every norm, every stage with its time

At INFO a stage says once what it did, at DEBUG what it decided on the way. Nothing is logged above INFO: what goes
wrong is an error, what a reader should know stands in the result. Words out of files are escaped.
"""

from __future__ import annotations

import logging

from normexport.text import one_line
from normexport.verdicts import Judgement

logging.getLogger("normexport").addHandler(logging.NullHandler())


def logger(module: str) -> logging.Logger:
    """The logger of a module, under the module's own name: "normexport.folding.fold"."""
    return logging.getLogger(module)


def in_words(judgement: Judgement | None) -> str:
    """A judgement in one line, "FAILED: output y: is out of its budget"; "not judged" for None."""
    if judgement is None:
        return "not judged"
    return ": ".join(filter(None, (judgement.verdict.word, one_line("; ".join(judgement.reasons)))))
