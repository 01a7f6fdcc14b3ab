"""The structure of inputs and outputs: nested tuples, lists and dicts, read as JSON and written anew.

PyTorch's own reader imports classes by name from it (enumerations, factories of default dicts, named tuples).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from normexport.checkpoint.names import is_identifier
from normexport.checkpoint.pt2.json_text import parse_json_text
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun, quoted

_PROTOCOL = 1
_LONGEST, _DEEPEST = 1 << 20, 32
_IN_ORDER = ("builtins.tuple", "builtins.list", "torch.fx.immutable_collections.immutable_list", "torch.Size")
_BY_KEY = ("builtins.dict", "collections.OrderedDict", "torch.fx.immutable_collections.immutable_dict")
_KEY = re.compile(r"[\w.\-:/@ ]{1,256}")
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


def plain_treespec(text: str, *, arguments: bool = False) -> tuple[str, int]:
    """The structure as PyTorch may read it, and how many leaves it has.

    Args:
        arguments: it is that of a call: a tuple of the positional arguments and a dict of the named ones.

    Raises:
        WouldRun: it holds a type that is imported.
        Damaged: it is no structure.
    """
    found = parse_json_text(text, _LONGEST, "the structure of inputs or outputs")
    if not isinstance(found, list) or len(found) != 2 or found[0] != _PROTOCOL:
        raise Damaged(f"the structure of inputs or outputs is {quoted(text)}")
    tree, leaves = _plain(found[1], 0)
    if arguments:
        _require_call(tree)
    return json.dumps([_PROTOCOL, tree]), leaves


def _plain(found: Any, depth: int) -> tuple[dict[str, Any], int]:
    if depth > _DEEPEST:
        raise Damaged("the structure of inputs or outputs is nested too deeply")
    if not isinstance(found, dict) or set(found) != {"type", "context", "children_spec"}:
        raise Damaged("the structure of inputs or outputs lacks a type, a context or children")
    kind, context, children = found["type"], found["context"], found["children_spec"]
    if not isinstance(children, list):
        raise Damaged("the structure of inputs or outputs has no list of children")
    if kind is None and context is None and not children:
        return dict(_LEAF), 1
    inner = [_plain(child, depth + 1) for child in children]
    plain = {"type": kind, "context": _context(kind, context, children), "children_spec": [tree for tree, _ in inner]}
    return plain, sum(leaves for _, leaves in inner)


def _context(kind: Any, context: Any, children: Sequence[Any]) -> str:
    """What a container knows beside its children, as JSON: nothing, or its keys."""
    if kind not in (*_IN_ORDER, *_BY_KEY):
        raise WouldRun(f"the type {quoted(kind)}, imported for the inputs or outputs")
    if not isinstance(context, str):
        raise Damaged("the structure of inputs or outputs has a context that is no text")
    keys = parse_json_text(context, _LONGEST, "the structure of inputs or outputs")
    if kind in _IN_ORDER and keys is None:
        return "null"
    if kind in _BY_KEY and isinstance(keys, list) and len(keys) == len(children) and all(map(_is_key, keys)):
        return json.dumps(keys)
    raise WouldRun(f"the keys {quoted(context)} of the inputs or outputs")


def _is_key(key: Any) -> bool:
    return type(key) is int or (isinstance(key, str) and _KEY.fullmatch(key) is not None)


def _require_call(tree: dict[str, Any]) -> None:
    """PyTorch writes the names of arguments into the signature of the function that it compiles."""
    children = tree["children_spec"]
    if tree["type"] != "builtins.tuple" or len(children) != 2 or children[1]["type"] != "builtins.dict":
        raise Damaged("the structure of the inputs is not that of a call")
    for name in json.loads(children[1]["context"]):
        if not is_identifier(name):
            raise WouldRun(f"the input's name {quoted(name)}")
