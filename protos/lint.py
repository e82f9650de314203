"""Lints the protos with Buf and checks how they are formatted; `--fix` formats them.

    python protos/lint.py [--fix]

Called by `make check`. Buf is the executable `buf` in the folder TRACEMEND_TOOLS or on PATH, else the pinned npm
package through `npx`. Where there is none this says so and passes, unless TRACEMEND_REQUIRE names `buf`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_PROTOS = Path(__file__).resolve().parent
_PACKAGE = "@bufbuild/buf@1.75.0"
_START_S = 120.0
"""Time for `npx` to fetch the package; a machine without the registry must not wait for ever."""


def find_buf() -> list[str]:
    """The words that Buf is called by; none where it is not to be had."""
    folders = os.pathsep.join(filter(None, [os.environ.get("TRACEMEND_TOOLS"), os.environ.get("PATH")]))
    if found := shutil.which("buf", path=folders):
        return [found]
    npx = shutil.which("npx", path=folders)
    return [npx, "--yes", _PACKAGE] if npx and _starts([npx, "--yes", _PACKAGE]) else []


def _starts(command: list[str]) -> bool:
    try:
        tried = subprocess.run([*command, "--version"], check=False, capture_output=True, timeout=_START_S)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, cwd=_PROTOS).returncode


def main() -> int:
    """Lint and check; the exit status."""
    buf = find_buf()
    if not buf:
        required = "buf" in os.environ.get("TRACEMEND_REQUIRE", "").split(",")
        what = "TRACEMEND_REQUIRE asks for it" if required else "the protos were NOT linted"
        print(f"buf: none in TRACEMEND_TOOLS or on PATH, and npx cannot fetch {_PACKAGE}: {what}", file=sys.stderr)
        return 1 if required else 0
    if "--fix" in sys.argv[1:]:
        return _run(*buf, "format", "--write")
    lint = _run(*buf, "lint")
    formatted = _run(*buf, "format", "--diff", "--exit-code")
    if formatted != 0:
        print("run `python protos/lint.py --fix` (or `make format`)", file=sys.stderr)
    return lint or formatted


if __name__ == "__main__":
    sys.exit(main())
