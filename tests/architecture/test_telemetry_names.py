"""Names of the telemetry conventions stand in one module, and none of them is for what prompts or models say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.test_layout import ROOT, sources

from tracemend.runtime import telemetry_attributes

MODULE = Path(telemetry_attributes.__file__)
NAME = re.compile(
    r"(gen_ai|messaging|rpc|db|server)\.[a-z_.]+|error\.type|service\.(name|version|namespace|instance\.id)"
)
CONTENT = re.compile(r"input|output_messages|prompt|completion|content|instructions|text")


def names(path: Path) -> set[str]:
    """The strings of a module that are names of a convention's attributes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in strings if NAME.fullmatch(text)}


def test_attribute_names_stand_in_one_module() -> None:
    assert names(MODULE)
    elsewhere = {str(path.relative_to(ROOT)): found for path in sources() if path != MODULE and (found := names(path))}
    assert elsewhere == {}


def test_the_module_says_which_convention_it_follows_and_captures_no_content() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", telemetry_attributes.CONVENTION)
    assert [name for name in names(MODULE) if CONTENT.search(name)] == []
