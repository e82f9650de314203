"""Seconds until `tracemend --help` has printed, and which imports they go to."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

_HELP = [sys.executable, "-m", "tracemend.cli", "--help"]


def measure_help(rounds: int = 10, num_imports: int = 8) -> dict[str, Any]:
    """Median over `rounds`, beside an interpreter that does nothing; the slowest imports by their own time."""
    return {
        "help_s": statistics.median(_time(_HELP) for _ in range(rounds)),
        "bare_python_s": statistics.median(_time([sys.executable, "-c", "pass"]) for _ in range(rounds)),
        "slowest_imports_s": _slowest_imports(num_imports),
    }


def _time(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _slowest_imports(number: int) -> dict[str, float]:
    command = [sys.executable, "-X", "importtime", *_HELP[1:]]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    own_us: dict[str, int] = {}
    for line in lines:
        cells = line.removeprefix("import time:").split("|")
        if len(cells) == 3 and cells[0].strip().isdigit():
            own_us[cells[2].strip()] = int(cells[0])
    slowest = sorted(own_us, key=lambda name: -own_us[name])[:number]
    return {name: own_us[name] / 1e6 for name in slowest}
