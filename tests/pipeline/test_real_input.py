"""Real prompt sets through models behind endpoints: `examples/unsafechain-real.yaml`, run by the real command.

The endpoint is vLLM's own server on a CPU with a model that writes nonsense, as target, judge and teacher alike. What
is checked holds for any model: everything is accounted for, nothing that a judge did not say counts as safe, licences
travel, and no word of a prompt reaches a terminal or a log.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.needs import needs_data
from tests.pipeline import served_model

from tracemend.embedded.intake import prompts_of, units_of
from tracemend.embedded.laws import check_laws
from tracemend.embedded.looking import OpenRun, open_run
from tracemend.embedded.models import Engine, find_target, open_helpers
from tracemend.embedded.progress import Silent
from tracemend.generator.service import plan_samples
from tracemend.ingestion.presets import PRESETS
from tracemend.judge.service import JudgeService
from tracemend.kit.ids import trajectory_id
from tracemend.kit.ports import ConcludedUnit
from tracemend.records import Category, Part, Prompt, Value, Verdict
from tracemend.trainer import dataset

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "unsafechain-real.yaml"
ARM = "unsafechain"
CANARY_WORDS = 5
"""Consecutive words of a prompt that nothing but the prompt itself would say."""


@dataclass
class Facts:
    """What a finished run left behind, read from its folder."""

    output: str
    """Standard output, standard error and the server's log."""
    intake: tuple[int, int] = (0, 0)
    prompts: list[Prompt] = field(default_factory=list)
    num_planned: int = 0
    concluded: list[ConcludedUnit] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    broken_laws: list[str] = field(default_factory=list)
    num_laws: int = 0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path]]:
    """Variables that name the endpoint in all three roles, and the server's log."""
    data = needs_data()
    scratch = tmp_path_factory.mktemp("served")
    folder = served_model.small_model(scratch / "model", cache=tmp_path_factory.getbasetemp() / "models")
    with served_model.serving(folder, log=scratch / "log") as url:
        names = {"TRACEMEND_DATA": str(data)}
        for role in ("TARGET", "JUDGE", "TEACHER"):
            names |= {f"TRACEMEND_{role}_MODEL": served_model.NAME, f"TRACEMEND_{role}_URL": url}
        yield names, scratch / "log"


@pytest.fixture(scope="module")
def some_of_each_set(environment: tuple[dict[str, str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("some") / "run"
    run_example(out, environment, prompts=[item | {"limit": 8} for item in example()["prompts"]], samples=2)
    return out


async def test_some_prompts_of_every_set_end_as_they_must(
    some_of_each_set: Path, environment: tuple[dict[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = await facts_of(some_of_each_set, environment, monkeypatch)
    everything_is_accounted_for(facts)
    assert {prompt.source for prompt in facts.prompts} == {item["name"] for item in example()["prompts"]}
    nothing_unsaid_is_safe(facts)
    no_prompt_is_shown(facts)


def test_licences_travel_into_the_dataset(some_of_each_set: Path) -> None:
    manifest = dataset.read_manifest(some_of_each_set / "datasets" / ARM)
    rows = dataset.read_examples(some_of_each_set / "datasets" / ARM)
    assert rows
    for row in rows:
        assert row.prompt.licence == PRESETS[row.prompt.source].licence
        assert manifest.counts[f"licence/{row.prompt.licence}"] > 0
    counted = {name: number for name, number in manifest.counts.items() if name.startswith("licence/")}
    assert sum(counted.values()) == manifest.num_rows == len(rows)


async def test_every_prompt_of_a_whole_set_ends_in_one_outcome(
    tmp_path: Path, environment: tuple[dict[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, lookalikes = ({"source": "preset", "name": name} for name in ("strongreject", "xstest_safe"))
    again = [lookalikes | {"limit": 12}, whole | {"limit": 7}]
    run_example(tmp_path / "run", environment, prompts=[whole, *again], samples=1)
    facts = await facts_of(tmp_path / "run", environment, monkeypatch)
    everything_is_accounted_for(facts)
    assert facts.intake == (308 + 12, 7), "StrongREJECT's own size and the look-alikes; what is repeated is refused"
    nothing_unsaid_is_safe(facts)
    no_prompt_is_shown(facts)


# what must hold -----------------------------------------------------------------------------------


def everything_is_accounted_for(facts: Facts) -> None:
    admitted, _ = facts.intake
    assert len(facts.prompts) == admitted
    units = [(item.unit.arm, item.unit.prompt, item.unit.sample, item.unit.variant) for item in facts.concluded]
    assert len(units) == len(set(units)) == facts.num_planned
    assert {prompt for _, prompt, _, _ in units} == {prompt.id for prompt in facts.prompts}
    assert facts.num_laws >= 4
    assert facts.broken_laws == []


def nothing_unsaid_is_safe(facts: Facts) -> None:
    """The judge of harm writes nonsense, so all that it was asked about is unknown and nothing is kept or mended."""
    harm = [verdict for verdict in facts.verdicts if verdict.trajectory.prompt.category is Category.HARMFUL]
    said = {label for verdict in harm for part in Part for label in verdict.of(part).labels}
    assert "unparsed" in said, "the judge was asked, and its reply was read"
    for verdict in harm:
        for part in Part:
            judgement = verdict.of(part)
            assert judgement.value is Value.UNKNOWN or judgement.labels == ("empty",), "no reasoning, nothing to judge"
    harmful = {prompt.id for prompt in facts.prompts if prompt.category is Category.HARMFUL}
    states = {item.state for item in facts.concluded if item.unit.prompt in harmful}
    assert states == {"not_selected"}


def no_prompt_is_shown(facts: Facts) -> None:
    assert facts.output.strip(), "the run said something"
    shown = " ".join(facts.output.split()).casefold()
    for prompt in facts.prompts:
        words = prompt.text.reveal().casefold().split()
        canaries = [" ".join(words[at : at + CANARY_WORDS]) for at in range(max(1, len(words) - CANARY_WORDS + 1))]
        assert not any(canary in shown for canary in canaries), f"words of {prompt.id} were shown"


# running and reading ------------------------------------------------------------------------------


def example() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return content


def run_example(
    out: Path,
    environment: tuple[dict[str, str], Path],
    *,
    prompts: list[dict[str, Any]],
    samples: int,
) -> None:
    """Run the example with these prompts and short responses, and write what it says beside `out`.

    Its shares are all benign here: with a judge whose replies are no verdicts there are no harmful rows to publish.
    """
    content = example()
    content["prompts"] = prompts
    content["target"] |= {"samples": samples, "sampling": {"temperature": 0.6, "max_new_tokens": 96}}
    content["judge"]["harm"]["options"] = {"max_new_tokens": 48}
    content["arms"][ARM]["correct"] |= {"attempts": 2, "sampling": {"max_new_tokens": 96}}
    content["arms"][ARM]["assemble"] = {"benign_share": 1.0}
    out.parent.mkdir(parents=True, exist_ok=True)
    run_file = out.parent / "run.yaml"
    run_file.write_text(yaml.safe_dump(content), encoding="utf-8")
    names, log = environment
    command = [sys.executable, "-m", "tracemend.cli", "run", str(run_file), "--out", str(out)]
    done = subprocess.run(
        command,
        env=os.environ | names | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    said = done.stdout + done.stderr + log.read_text(encoding="utf-8", errors="replace")
    (out.parent / "said").write_text(said, encoding="utf-8")
    assert done.returncode == 0, f"the run ended with {done.returncode}; its words may hold text and are in said"


async def facts_of(out: Path, environment: tuple[dict[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Facts:
    for name, value in environment[0].items():
        monkeypatch.setenv(name, value)
    facts = Facts(output=(out.parent / "said").read_text(encoding="utf-8"))
    async with open_run(out) as opened:
        workspace, run, plan = opened.workspace, opened.run, opened.plan
        facts.intake = await workspace.ledger.intake(run) or (0, 0)
        facts.prompts = [prompt async for prompt in prompts_of(workspace, run)]
        facts.num_planned = sum(len(units_of(plan, prompt)) for prompt in facts.prompts)
        facts.concluded = [item async for item in workspace.ledger.outcomes(run, arm=ARM)]
        facts.verdicts = await verdicts_of(opened, facts.prompts)
        laws = await check_laws(workspace, run=run, plan=plan)
    facts.num_laws = len(laws)
    facts.broken_laws = [f"{law.law}: {law.detail}" for law in laws if not law.holds]
    return facts


async def verdicts_of(opened: OpenRun, prompts: list[Prompt]) -> list[Verdict]:
    """The verdict on every sample, found as the stages find it: by who wrote it and who judged it."""
    run = opened.plan.run
    target = find_target(run.target, seed=run.seed, cache=opened.workspace.folder, observer=Silent())
    engine = Engine()
    async with open_helpers(run.models) as helpers:
        judge = JudgeService.build(run.judge, helpers)
        identity = (await engine.on(target)).identity
        await engine.release()
    keys = []
    for prompt in prompts:
        requests = plan_samples(
            prompt, model=identity, sampling=run.target.sampling.record(), num_samples=run.target.samples
        )
        keys += [judge.work_key(trajectory_id(request.id), prompt) for request in requests]
    found = await opened.workspace.results.records(keys)
    assert set(found) == set(keys), "every sample was judged"
    return [verdict for key in keys for verdict in found[key]]
