"""What our code never does: fork beside the threads of clients, use pickles, compare and swap in the store, write to
Kafka in transactions."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("shared", "services", "protos", "benchmarks", "examples")
_FORKING_MODULES = frozenset({"pty", "forkserver"})
_PICKLING = frozenset({"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"})
_PICKLED = frozenset({"read_pickle", "to_pickle", "allow_pickle", "pickle_module", "save_pickle"})
_CONDITION = re.compile(r"if[-_]?(none[-_]?)?match\b|compare[-_]and[-_]swap|precondition_match", re.IGNORECASE)


def names(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every dotted name, attribute and keyword that code uses, import by import and call by call."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((alias.name, node) for alias in node.names)
            case ast.ImportFrom():
                yield node.module or "", node
                yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)
            case ast.Attribute():
                yield ast.unparse(node), node
            case ast.keyword() if node.arg:
                yield node.arg, node


def forks(tree: ast.AST) -> list[str]:
    """Ways to a process that shares our memory: `os.fork`, and multiprocessing without `spawn`."""
    found = []
    for name, _ in names(tree):
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        if first in _FORKING_MODULES or name in ("os.fork", "os.forkpty", "preexec_fn"):
            found.append(name)
        if first == "multiprocessing" or last in ("ProcessPoolExecutor", "set_start_method"):
            found.append(name)
    return found


def pickles(tree: ast.AST) -> list[str]:
    """Modules that pickle, functions that do unless they are told otherwise."""
    found = [
        name
        for name, _ in names(tree)
        if name.partition(".")[0] in _PICKLING or name.rpartition(".")[2] in _PICKLED or name in ("torch.save",)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            only = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            found += ["torch.load"] if only.get("weights_only") != "True" else []
    return found


def swaps(tree: ast.AST) -> list[str]:
    """Conditional writes: headers and options of requests to the store, spelt in any way."""
    words = [name for name, _ in names(tree)]
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    words += [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return [word for word in words if _CONDITION.search(word)]


def transactions(tree: ast.AST) -> list[str]:
    """Producers with transactions: their markers are lag for ever, and what scales on lag never goes to nothing."""
    return [name for name, _ in names(tree) if name in ("transactional_id", "begin_transaction", "init_transactions")]


def remote_code(tree: ast.AST) -> list[str]:
    """Model folders whose code would run: the option is off wherever it is named."""
    told = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            told += [value for key, value in pairs if key and ast.unparse(key) == "'trust_remote_code'"]
    return [ast.unparse(value) for value in told if ast.unparse(value) != "False"]


BANS: dict[str, tuple[Callable[[ast.AST], list[str]], str]] = {
    "forks": (forks, "import os\nos.fork()"),
    "pools": (forks, "from concurrent.futures import ProcessPoolExecutor"),
    "multiprocessing": (forks, "import multiprocessing as mp\nmp.Process(target=f).start()"),
    "pickles": (pickles, "from pickle import loads"),
    "torch pickles": (pickles, "import torch\ntorch.load(path)"),
    "arrays": (pickles, "import numpy\nnumpy.load(path, allow_pickle=True)"),
    "swaps": (swaps, "client.put_object(key, body, headers={'If-Match': etag})"),
    "remote code": (remote_code, "AutoModel.from_pretrained(folder, trust_remote_code=settings.trust)"),
    "transactions": (transactions, "KafkaProducer(transactional_id='a')"),
    "absent": (swaps, "client.put_object(key, body, IfNoneMatch='*')"),
}


def sources() -> list[Path]:
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
    ]


@pytest.mark.parametrize("ban", BANS)
def test_our_code_keeps_each_ban(ban: str) -> None:
    check, _ = BANS[ban]
    found = {
        str(path.relative_to(ROOT)): names
        for path in sources()
        if (names := check(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize("ban", BANS)
def test_each_ban_finds_what_it_is_for(ban: str) -> None:
    check, example = BANS[ban]
    assert check(ast.parse(example))
    assert check(ast.parse("'''if-match, os.fork and pickle, in words'''\nimport json")) == []
