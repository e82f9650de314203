"""Addresses that the environment fills in: at the moment of opening, by name, and nowhere else."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tracemend.embedded.environment import filled, names_in
from tracemend.embedded.models import find_target, locate_target, open_helpers
from tracemend.embedded.pipeline import run_id
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import ModelSettings, parse_run_file
from tracemend.generator.settings import TargetSettings
from tracemend.kit.errors import SetupError

ADDRESS = "openai:${A_MODEL}@${A_URL}"
TARGET = 'model: endpoint, engine: "openai:${A_MODEL}@${A_URL}"'
RUN = f"""
name: small
models: {{judge: {{engine: "{ADDRESS}"}}}}
prompts: [{{source: numbered, count: 2}}]
target: {{{TARGET}}}
judge: {{harm: {{name: last_word}}}}
"""


def identity_now(plan: Plan) -> str:
    """The identity of the plan's target, as the environment has it now."""
    return find_target(plan.run.target, seed=0, cache=Path("unused"), observer=Silent()).identity


def test_every_reference_is_replaced_and_the_rest_is_left_alone() -> None:
    known = {"A_MODEL": "org/m-7b", "A_URL": "http://h:1/v1"}
    assert filled(ADDRESS, where="x", environment=known) == "openai:org/m-7b@http://h:1/v1"
    assert filled("transformers:/models/$HOME/r1", where="x", environment={}) == "transformers:/models/$HOME/r1"
    assert names_in(ADDRESS) == ("A_MODEL", "A_URL")


def test_a_value_is_taken_as_it_is() -> None:
    """A value that looks like a reference is not followed."""
    assert filled("${A}", where="x", environment={"A": "${B}", "B": "b"}) == "${B}"


@pytest.mark.parametrize("known", [{}, {"A_MODEL": "", "A_URL": ""}])
def test_what_is_unset_or_empty_is_named_with_its_setting(known: dict[str, str]) -> None:
    with pytest.raises(SetupError, match=r"^models\.judge\.engine: set the environment variables A_MODEL, A_URL$"):
        filled(ADDRESS, where="models.judge.engine", environment=known)


@pytest.mark.parametrize("address", ["openai:${A-B}@http://h", "openai:${", "${}", "${1A}"])
def test_a_reference_that_is_none_is_an_error(address: str) -> None:
    with pytest.raises(SetupError, match="written"):
        filled(address, where="x", environment={"A": "a"})


async def test_helpers_and_targets_are_opened_with_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"judge": ModelSettings(engine=ADDRESS)}
    with pytest.raises(SetupError, match="A_MODEL, A_URL"):
        async with open_helpers(settings):
            pass
    monkeypatch.setenv("A_MODEL", "m")
    monkeypatch.setenv("A_URL", "http://127.0.0.1:9/v1")
    async with open_helpers(settings) as one:
        first = one["judge"].identity
    async with open_helpers({"judge": ModelSettings(engine="openai:m@http://127.0.0.1:8/v1")}) as written:
        assert written["judge"].identity == first


def test_a_folder_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    monkeypatch.setenv("A_FOLDER", str(tmp_path))
    settings = TargetSettings(model="${A_FOLDER}/m")
    assert find_target(settings, seed=0, cache=tmp_path, observer=Silent()).folder == tmp_path / "m"
    with pytest.raises(SetupError, match="no folder"):
        find_target(TargetSettings(model="${A_FOLDER}/n"), seed=0, cache=tmp_path, observer=Silent())


def test_another_model_behind_the_name_is_another_run_and_another_address_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Samples of two models must never stand in one run; the stored plan knows neither of them."""
    plan = resolve(parse_run_file(RUN, name="run.yaml"))
    ids = []
    for model, url in (("m", "http://a/v1"), ("m", "http://b/v1"), ("n", "http://a/v1")):
        monkeypatch.setenv("A_MODEL", model)
        monkeypatch.setenv("A_URL", url)
        ids.append(run_id(plan, target=identity_now(plan)))
    assert ids[0] == ids[1] != ids[2]
    assert b"${A_URL}" in plan.content
    assert b"http://" not in plan.content


def test_another_teacher_or_judge_model_is_another_run() -> None:
    """What they wrote and judged is stored with the run's units: a changed model must not find them again."""
    plan = resolve(parse_run_file(RUN.replace("${A_MODEL}@${A_URL}", "m@http://a/v1"), name="run.yaml"))
    ids = {run_id(plan, target="t", helpers={"teacher": identity}) for identity in ("one", "another")}
    assert len(ids) == 2
    assert run_id(plan, target="t", helpers={"teacher": "one"}) in ids


def test_a_run_is_of_a_model_and_not_of_where_it_lies_and_what_serves_it(tmp_path: Path) -> None:
    """The same folder moved, or served by another engine with other options, goes on with the same run."""
    ids = set()
    for place, engine in (("one", "transformers"), ("other", "vllm"), ("other", "transformers")):
        (tmp_path / place).mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (tmp_path / place / name).write_text("{}", encoding="utf-8")
        target = f"model: {tmp_path / place}, engine: {engine}, engine_options: {{batch: {len(ids)}}}"
        plan = resolve(parse_run_file(RUN.replace(TARGET, target), name="run.yaml"))
        ids.add(run_id(plan, target=identity_now(plan)))
    assert len(ids) == 1
    (tmp_path / "other" / "model.safetensors").write_text("other weights", encoding="utf-8")
    assert run_id(plan, target=identity_now(plan)) not in ids
    assert run_id(plan, target="t") != run_id(resolve(plan.run.model_copy(update={"seed": 1})), target="t")


@pytest.mark.slow
async def test_cancelling_ends_the_training_of_the_base_model(tmp_path: Path) -> None:
    """It takes minutes, and a process waits for its threads before it ends."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    class Watching(Silent):
        def training(self, step: int, num_steps: int, loss: float) -> None:
            loop.call_soon_threadsafe(begun.set)

    settings = TargetSettings(model="proving:base")
    work = asyncio.create_task(locate_target(settings, seed=0, cache=tmp_path, observer=Watching()))
    async with asyncio.timeout(90):
        await begun.wait()
    asked_s = time.monotonic()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert time.monotonic() - asked_s < 20
