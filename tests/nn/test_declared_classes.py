"""What type checkers see of `normexport.nn` is what the registry of kinds makes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

import normexport.nn as nxn
from normexport.nn import batch, group, instance, lazy
from normexport.norms import KINDS

STUB = Path(nxn.__file__).with_name("kinds.pyi")


def declared() -> dict[str, str]:
    """Classes of the stub, each with its base."""
    classes = [each for each in ast.parse(STUB.read_text()).body if isinstance(each, ast.ClassDef)]
    return {each.name: ast.unparse(each.bases[0]) for each in classes}


def test_every_class_that_the_registry_makes_is_declared_with_its_base() -> None:
    made = {f"{kind.title}{scope}{rank}d": f"{scope}{rank}d" for kind in KINDS.values()
            for lazy_or_not in ("", "Lazy") for scope in (f"{lazy_or_not}BatchNorm", f"{lazy_or_not}InstanceNorm")
            for rank in (1, 2, 3)}  # fmt: skip
    made |= {f"{kind.title}{base}": base for kind in KINDS.values() for base in ("GroupNorm", "LayerNorm")}
    assert declared() == made
    for name, base in made.items():
        homes = {"Batch": batch, "Insta": instance, "Group": group, "Layer": group, "LazyB": lazy, "LazyI": lazy}
        home = homes[base[:5]]
        assert issubclass(getattr(nxn, name), getattr(home, base))
        assert getattr(nxn, name) is getattr(home, name)


def test_star_import_and_completion_know_every_class() -> None:
    names: dict[str, object] = {}
    exec("from normexport.nn import *", names)
    assert declared().keys() <= names.keys()
    assert declared().keys() <= set(dir(nxn))


@pytest.mark.parametrize("module", [nxn, batch, group, instance, lazy])
@pytest.mark.parametrize("name", ["BatchNorm2e", "l1BatchNorm2d", "L1GroupNorm2d", "__path_of_nothing__"])
def test_names_that_no_kind_has_are_attribute_errors(module: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(f"module '{module.__name__}' has no attribute '{name}'")):
        getattr(module, name)


def test_a_subclass_of_ones_own_keeps_the_kind() -> None:
    class Mine(nxn.L1BatchNorm2d):
        pass

    assert isinstance(Mine(3), nn.Module)
    assert Mine.kind == "l1"
