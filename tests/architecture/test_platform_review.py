"""The review page claims nothing that is not there: every item once, and every test that it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "platform-review.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (shown|waived|not yet) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def named_in(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_item_of_the_services_stands_there_once_with_a_state() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    assert [int(number) for number, *_ in ROW.findall(PAGE)] == list(range(1, 133))
    assert len(rows) == 132, "a row has no state"


def test_every_named_test_exists() -> None:
    assert [f"{file}::{name}" for file, name in TEST.findall(PAGE) if name not in named_in(file)] == []
    assert PAGE.count("::") == len(TEST.findall(PAGE)), "a test is named in another form"


def test_what_is_shown_names_a_test() -> None:
    assert [number for number, _, state, why in ROW.findall(PAGE) if state == "shown" and not TEST.search(why)] == []
