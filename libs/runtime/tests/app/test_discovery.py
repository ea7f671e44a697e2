"""Plug-ins are found by walking a package, and a doubtful one stops the start."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from bizosaas_runtime.discovery import PluginError, discover

Package = Callable[..., ModuleType]


class Plugin:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Package:
    """A package with these modules, each with its lines."""
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules["plugin_of_this_test"] = module = ModuleType("plugin_of_this_test")
    module.Plugin = Plugin  # type: ignore[attr-defined]  # a module made for this test

    def make(**modules: str) -> ModuleType:
        name = f"plugins_{abs(hash(request.node.nodeid))}"
        (tmp_path / name).mkdir()
        for file, lines in {"__init__": "", **modules}.items():
            (tmp_path / name / f"{file}.py").write_text(f"from plugin_of_this_test import Plugin\n{lines}\n")
        return importlib.import_module(name)

    return make


def test_one_of_each_module_is_found_by_its_key(package: Package) -> None:
    found = discover(package(a="A = Plugin('one')", b="B = Plugin('two')", _shared=""), Plugin, key="name")
    assert {name: plugin.name for name, plugin in found.items()} == {"one": "one", "two": "two"}


@pytest.mark.parametrize("lines", ["", "A = Plugin('one')\nB = Plugin('two')"])
def test_a_module_with_none_or_two_is_named(package: Package, lines: str) -> None:
    with pytest.raises(PluginError, match=r"\.odd defines (0|2) values of Plugin"):
        discover(package(odd=lines), Plugin, key="name")


def test_a_key_that_is_taken_is_named(package: Package) -> None:
    with pytest.raises(PluginError, match="'same' is taken"):
        discover(package(a="A = Plugin('same')", b="B = Plugin('same')"), Plugin, key="name")
