"""What the image recipe promises, as far as its text and the locks show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECIPE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
HEAVY = {"torch", "vllm", "trl", "deepspeed", "triton"}


def test_the_services_image_has_no_torch_and_no_engine() -> None:
    lock = (ROOT / "requirements" / "services.lock").read_text(encoding="utf-8")
    names = {line.partition("==")[0].lower() for line in lock.splitlines() if re.match(r"[A-Za-z0-9._-]+==", line)}
    assert names
    assert not names & HEAVY
    assert not {name for name in names if name.startswith("nvidia-")}


def test_the_image_sets_no_setting() -> None:
    """A service refuses to start with a variable that is not its own, and one image serves all."""
    assert "TRACEMEND_" not in RECIPE


@pytest.mark.parametrize("lock", ["services", "gpu", "cpu", "build"])
def test_everything_that_is_installed_is_pinned_by_hash(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")
    pinned = [part for part in re.split(r"\n(?=\S)", text) if re.match(r"[A-Za-z0-9._-]+(\[.*\])?==", part)]
    assert pinned
    assert [part.split()[0] for part in pinned if "--hash=sha256:" not in part] == []
    assert RECIPE.count("--require-hashes") == 2


def test_it_runs_as_a_number_that_is_not_root() -> None:
    """The kubelet can tell only of a number that it is not root."""
    (user,) = re.findall(r"^USER (.*)$", RECIPE, flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_dependencies_come_before_the_source() -> None:
    """So that a change of code leaves their layer as it is."""
    final = RECIPE[RECIPE.rindex("FROM ") :]
    assert final.index("--from=dependencies") < final.index("--from=build")
    assert "shared/tracemend" not in RECIPE[: RECIPE.index("FROM dependencies")]
