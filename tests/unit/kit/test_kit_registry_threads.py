"""Registries are asked from several threads of a service at once, also while their plug-ins are being found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tracemend.kit.registry import Registry


def test_threads_that_ask_while_plug_ins_are_found_know_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "slow_plugins"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("one", "two"):
        (package / f"{name}.py").write_text(
            f"import time\ntime.sleep(0.2)\nimport slow_registry\n\n\n"
            f"@slow_registry.things.register\ndef {name}() -> None: ...\n"
        )
    (tmp_path / "slow_registry.py").write_text(
        "from tracemend.kit.registry import Registry\n"
        "things = Registry('thing', package='slow_plugins', group='tracemend.nothings')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        things: Registry[Callable[..., object]] = __import__("slow_registry").things
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(things.names)
            time.sleep(0.1)
            assert pool.submit(things.names).result() == first.result() == ["one", "two"]
    finally:
        for name in [name for name in sys.modules if name.startswith("slow_")]:
            del sys.modules[name]
