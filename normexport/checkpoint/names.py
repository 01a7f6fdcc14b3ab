"""Which names a file may give to modules, parameters and buffers: those that mean nothing when they become source.

PyTorch writes these names into Python source and runs it: torch.fx writes `self.layer1.conv` or, where a part is no
identifier, `getattr(self.layer1, "0")`, unescaped; paths also land in comments. A quote, a backslash or a line break
in a name is code then. What is allowed here calls nothing even where a name is written without its quotes.
"""

from __future__ import annotations

import keyword
import re
import unicodedata

#: Letters and digits of any language, `_`, and what keys of nn.ModuleDict hold in practice ("1x1", "a-b", "<u__v>").
_NAME = re.compile(r"[\w<](?:[\w \-+:/@|<>]*[\w>])?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The longest name and path; torch.fx and ONNX repeat them for every node.
LONGEST_NAME, LONGEST_PATH = 256, 2048
#: Modules within modules: PyTorch walks them by recursion.
DEEPEST_PATH = 64


def is_attribute_name(text: object) -> bool:
    """Whether `text` may be the name of one module, parameter or buffer: "conv1", "0", "1x1", "a-b".

    Names like `__class__` are not: they are Python's own. Nor are those that Python reads as another name (its
    identifiers are compared in Unicode's NFKC form).
    """
    return (
        isinstance(text, str)
        and len(text) <= LONGEST_NAME
        and _NAME.fullmatch(text) is not None
        and not text.startswith("__")
        and (text.isascii() or (text.isprintable() and unicodedata.normalize("NFKC", text) == text))
    )


def is_module_path(text: object) -> bool:
    """Whether `text` is a dotted path of such names, as of a module or a parameter: "layer1.0.conv2.weight"."""
    if not isinstance(text, str) or len(text) > LONGEST_PATH:
        return False
    parts = text.split(".")
    return len(parts) <= DEEPEST_PATH and all(is_attribute_name(part) for part in parts)


def is_identifier(text: object) -> bool:
    """Whether `text` is an ASCII identifier that is neither a keyword nor one of Python's own `__names__`."""
    return (
        isinstance(text, str)
        and len(text) <= LONGEST_NAME
        and _IDENTIFIER.fullmatch(text) is not None
        and not keyword.iskeyword(text)
        and not text.startswith("__")
    )
