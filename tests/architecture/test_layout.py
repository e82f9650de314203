"""The shape of the tree: two source roots, layers, light imports, sizes."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = (ROOT / "shared" / "tracemend", ROOT / "services" / "tracemend")
HEAVY = (
    "torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "vllm", "datasets", "kafka", "kubernetes",
    "kopf", "grpc", "minio", "matplotlib", "scipy", "numpy", "pandas", "pyarrow", "math_verify", "sympy", "datasketch",
)  # fmt: skip


def sources() -> list[Path]:
    return [path for root in ROOTS for path in sorted(root.rglob("*.py")) if "api" not in path.relative_to(root).parts]


def modules() -> list[str]:
    return [
        ".".join(("tracemend", *path.relative_to(root).with_suffix("").parts))
        for root in ROOTS
        for path in sorted(root.rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py") and "api" not in path.relative_to(root).parts
    ]


def functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_the_namespace_has_no_init_of_its_own() -> None:
    """An `__init__.py` in one root would hide the other."""
    assert [root for root in ROOTS if (root / "__init__.py").exists()] == []


def test_no_package_stands_in_both_roots() -> None:
    names = [{path.name for path in root.iterdir() if path.is_dir() and path.name != "__pycache__"} for root in ROOTS]
    assert names[0] & names[1] == set()


def test_every_package_is_typed() -> None:
    packages = [path for root in ROOTS for path in root.iterdir() if (path / "__init__.py").exists()]
    assert [path.name for path in packages if not (path / "py.typed").exists()] == []


def test_the_layers_hold() -> None:
    """`.importlinter` is the contract; `exhaustive` makes an unassigned package an error."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_importing_everything_imports_nothing_heavy() -> None:
    """Plug-ins, settings and commands must load in a moment: what is heavy is imported where it is used."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules()!r}: importlib.import_module(name)\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert statistics.median(lengths.values()) < 120
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 500} == {}


def test_functions_are_short() -> None:
    lengths = [length for path in sources() for length in functions(path)]
    assert [(name, n) for name, n in lengths if n > 80] == []
    assert sum(n <= 30 for _, n in lengths) / len(lengths) > 0.9


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_they_are_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body


def test_broad_handlers_stand_only_where_a_program_must_survive_anything() -> None:
    """The pump is the one place in the flow; a process's boundary hands errors on in words or as its exit code, and a
    dependency's check may fail in any way; what one run meets must not keep a tender from the others. The errors of the
    tokenizers library are plain `Exception`."""
    allowed = {
        "services/tracemend/programs/tending.py",
        "shared/tracemend/kit/pump.py",
        "shared/tracemend/runtime/jobs.py",
        "shared/tracemend/runtime/program.py",
        "shared/tracemend/runtime/program_dependencies.py",
        "shared/tracemend/runtime/rpc/chain.py",
        "shared/tracemend/traces/loading.py",
    }
    found = {
        str(path.relative_to(ROOT))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    }
    assert found <= allowed


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches everything and does not raise it again."""
    catches_all = handler.type is None or getattr(handler.type, "id", "") in ("Exception", "BaseException")
    return catches_all and not any(isinstance(node, ast.Raise) and node.exc is None for node in handler.body)
