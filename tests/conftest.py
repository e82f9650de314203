"""Marks as `servers` the tests of every module that asks `needs_server`, itself or through a helper that it imports.

A module that marks some of its tests itself (parametrised over servers and what needs none) is left to that.
Property tests have no deadline: on a busy machine it would measure the neighbours.
Files whose tests are allowed the most time come first, so that no worker is left with a long one at the end.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
from hypothesis import settings

settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Several threads add in another order: the same floats wherever it runs are promised for one."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    functions = (item for item in items if isinstance(item, pytest.Function))
    for module, tests in itertools.groupby(functions, key=lambda test: cast(ModuleType, test.module)):
        found = list(tests)
        if asks(module) and not any(test.get_closest_marker("servers") for test in found):
            for test in found:
                test.add_marker(pytest.mark.servers)
    allowed_s: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        allowed_s[item.path] = max(allowed_s[item.path], seconds_allowed(item))
    items.sort(key=lambda item: -allowed_s[item.path])


def seconds_allowed(item: pytest.Item) -> float:
    """By the test's own mark; 0 where it has none."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


def asks(module: ModuleType) -> bool:
    """Whether a test module, or a test helper whose functions it names, may ask for a server."""
    return any("needs_server" in vars(each) for each in (module, *helpers_of(module)))


def helpers_of(module: ModuleType) -> Iterator[ModuleType]:
    for value in vars(module).values():
        origin = sys.modules.get(getattr(value, "__module__", None) or "")
        if origin is not None and origin.__name__.startswith("tests.") and origin.__name__ != "tests.needs":
            yield origin
