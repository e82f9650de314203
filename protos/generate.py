"""Generates the Python code of every .proto in this folder; `--check` tells whether the committed code is current.

    python protos/generate.py            write into shared/ (what is committed)
    python protos/generate.py --check    exit 1, saying what to run, where the committed code differs

Called by `make protos` and `make check`. It needs grpcio-tools and no Node. A proto's path equals its package and its
import path, so the generated imports are right as they come. Everything under the target's `tracemend/api` is
generated: files that no proto stands behind are removed.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

_PROTOS = Path(__file__).resolve().parent
_COMMITTED = _PROTOS.parent / "shared"
_API = Path("tracemend/api")
_SERVICE = "_service.proto"
"""How the protos that declare a service end: only they have stubs to generate."""


def generate(target: Path) -> None:
    """Write modules, stubs and package markers of all protos under `target`; `SystemExit` if one does not compile."""
    from grpc_tools import protoc

    sources = sorted(path.relative_to(_PROTOS) for path in _PROTOS.glob("tracemend/**/*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    services = [source for source in sources if source.name.endswith(_SERVICE)]
    for outputs, compiled in (("python", "pyi"), sources), (("grpc_python",), services):
        flags = [f"-I{_PROTOS}", f"-I{well_known}", *(f"--{output}_out={target}" for output in outputs)]
        if compiled and protoc.main(["protoc", *flags, *map(str, compiled)]) != 0:
            raise SystemExit("protoc failed: correct the proto that it names above")
    for folder in {target / parent for source in sources for parent in source.parents}:
        if folder.is_relative_to(target / _API):
            (folder / "__init__.py").touch()
    (target / _API / "py.typed").touch()


def files_of(root: Path) -> set[Path]:
    """Generated files under `root`, relative to it."""
    paths = (path for path in (root / _API).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root) for path in paths}


def differences(fresh: Path, committed: Path) -> list[Path]:
    """Files that are missing, left over or different in `committed`."""
    ours, theirs = files_of(fresh), files_of(committed)
    changed = {path for path in ours & theirs if not filecmp.cmp(fresh / path, committed / path, shallow=False)}
    return sorted((ours ^ theirs) | changed)


def main() -> int:
    """Generate or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=_COMMITTED, help="source root to write into (default: shared/)")
    parser.add_argument("--check", action="store_true", help="write nothing; compare with what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        stale = differences(fresh, options.out)
        if options.check:
            for path in stale:
                print(f"not what the protos say: {options.out / path}", file=sys.stderr)
            if stale:
                print("run `python protos/generate.py` (or `make protos`) and commit the result", file=sys.stderr)
            return 1 if stale else 0
        for path in files_of(options.out) - files_of(fresh):
            (options.out / path).unlink()
    options.out.mkdir(parents=True, exist_ok=True)
    generate(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
