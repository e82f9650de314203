"""`tracemend serve SERVICE`: one service as a process of its own, from its settings to its exit code."""

from __future__ import annotations

import importlib
from pathlib import Path

from tracemend.cli.running import quiet_libraries
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.runtime.program import run_program
from tracemend.runtime.program_configuration import load, settings_of
from tracemend.runtime.program_settings import SERVICES


def serve(service: str, *, config: Path | None, check: bool) -> None:
    """Serve until told to stop, and exit with the code that says how it ended; or only check the settings."""
    kind = SERVICES.get(service)
    if kind is None:
        raise SetupError(f"unknown service '{service}'{did_you_mean(service, list(SERVICES))}")
    settings = load(kind, file=config)
    if check:
        print(f"the settings of {service} can be used ({sum(1 for _ in settings_of(kind))} settings)")
        return
    quiet_libraries()
    try:
        main = importlib.import_module(f"tracemend.programs.{service}").main
    except ImportError as missing:
        if (missing.name or "").startswith("tracemend"):
            raise
        raise SetupError(f"serving {service} needs {missing.name}: install tracemend[cluster]") from None
    raise SystemExit(run_program(main, settings))
