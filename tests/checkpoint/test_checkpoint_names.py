"""Names that files give to modules and parameters: what is refused is what would be code in generated source."""

from __future__ import annotations

import ast

import pytest

from normexport.checkpoint.names import is_attribute_name, is_identifier, is_module_path

HONEST = ["conv1", "0", "1x1", "a-b", "in:out", "<user___rates___item>", "größe", "卷积", "_orig_mod", "b 1", "w" * 256]
HOSTILE = [
    "", " a", "a ", "a.b", 'x"', "x'", "x`", "x\\", "x\n", "a\nb", "a\rb", "a\r", "a\u2028b", "a\u2029b", "a\x0bb",
    "a\x00b", "a\tb", "a\u200bb", "a;b", "a(b)", "a[0]", "a{b}", "a#b", "a%b", "a$b", "a=b", "a,b",
    "__class__", "__init__", "\uff3f\uff3fclass\uff3f\uff3f", "\ufb01", "w" * 257, None, 3, b"conv1",
]  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_names_of_honest_modules_are_allowed(name: str) -> None:
    assert is_attribute_name(name)
    assert is_module_path(f"layer1.{name}.weight")


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_names_that_could_be_code_are_refused(name: bytes | int | str | None) -> None:
    assert not is_attribute_name(name)
    assert not is_identifier(name)
    if isinstance(name, str) and name != "a.b":
        assert not is_module_path(f"layer1.{name}.weight")


@pytest.mark.parametrize("name", HONEST)
def test_an_allowed_name_holds_no_call_in_any_way_that_source_can_quote_it(name: str) -> None:
    """Independent witness: Python's own parser."""
    for source in (f'getattr(self, "{name}")', f"getattr(self, '{name}')", f"x = 1  # {name}\n"):
        tree = ast.parse(source)
        assert len(tree.body) == 1
        assert sum(isinstance(node, ast.Call) for node in ast.walk(tree)) <= 1


def test_identifiers_are_ascii_words_that_python_does_not_use_itself() -> None:
    assert all(is_identifier(name) for name in ("x", "input_1", "_y", "p_layer1_0_weight"))
    assert not any(is_identifier(name) for name in ("class", "lambda", "None", "1x", "größe", "a-b", "__import__"))


def test_paths_are_bounded() -> None:
    assert is_module_path(".".join(["a"] * 64))
    assert not is_module_path(".".join(["a"] * 65))
    assert not is_module_path(".".join(["w" * 250] * 10))
