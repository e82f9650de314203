"""Phases are done once per inputs, and settings that are changed back bring back what belongs to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT

from tracemend.embedded.arms import Arms
from tracemend.embedded.models import Target
from tracemend.embedded.phases import once, results_of
from tracemend.embedded.pipeline import run_id
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import parse_run_file
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.kit.errors import SetupError
from tracemend.records import Checkpoint, DatasetManifest
from tracemend.trainer.training import TrainingJob

VALIDATION = "  validation:\n    checked: {prompts: {source: numbered, count: 2, start: 30000}}\n"
CHAIN = TEXT.replace("  rewrite:", "    train: {learning_rate: 1.0e-3}\n  rewrite:\n    from: filter")


def _plan(rate: str, text: str = CHAIN) -> Plan:
    return resolve(parse_run_file(text.replace("1.0e-3", rate), name="run.yaml"))


def _write_model(folder: Path, weights: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_text(weights, encoding="utf-8")
    return folder


async def test_a_result_that_is_found_again_is_the_latest_again(tmp_path: Path) -> None:
    """`report` and `verify` look at the latest results: those of the settings that the run was last started with."""
    async with open_workspace(tmp_path) as workspace:
        await workspace.ledger.open_run("r", plan="p")

        async def phase(value: int) -> int:
            async def work() -> int:
                return value

            found: int = await once(workspace, "r", "train:a", [value], work)
            return found

        for value in (1, 2, 1, 1, 2, 1):
            assert await phase(value) == value
            assert await results_of(workspace, "r") == {"train:a": value}
        assert len(await workspace.ledger.phases("r")) == 5, "what is the latest already is not entered again"


async def test_weights_that_another_training_replaced_are_trained_again(tmp_path: Path) -> None:
    trained: list[TrainingJob] = []
    async with open_workspace(tmp_path) as workspace:
        await workspace.ledger.open_run("r", plan="p")
        for rate in ("1.0e-3", "2.0e-3", "1.0e-3", "1.0e-3"):
            checkpoint = await _train(workspace, _plan(rate), trained)
            weights = (tmp_path / checkpoint.path / "model.safetensors").read_text(encoding="utf-8")
            assert json.loads(weights) == float(rate)
    assert [job.settings.learning_rate for job in trained] == [1e-3, 2e-3, 1e-3]


@pytest.mark.parametrize(
    ("algorithm", "times"), [("grpo", 2), ("sft", 1)], ids=["rewarded by the judge", "not rewarded"]
)
async def test_another_judge_repeats_the_trainings_that_it_rewards(tmp_path: Path, algorithm: str, times: int) -> None:
    """A judge whose wording has changed is another one, in a run of the same name."""
    plan = _plan("1.0e-3", CHAIN.replace("{learning_rate: 1.0e-3", f"{{algorithm: {algorithm}, learning_rate: 1.0e-3"))
    trained: list[TrainingJob] = []
    async with open_workspace(tmp_path) as workspace:
        await workspace.ledger.open_run("r", plan="p")
        for harm in ("a:1", "b:2", "b:2"):
            await _train(workspace, plan, trained, judges={"harm": harm, "refusal": harm})
    assert len(trained) == times
    assert len({job.reward for job in trained}) == times
    assert all(bool(job.reward) == (algorithm == "grpo") for job in trained)


async def test_a_system_prompt_is_part_of_every_training(tmp_path: Path) -> None:
    told = CHAIN.replace("samples: 2", "samples: 2, system: think first")
    trained: list[TrainingJob] = []
    async with open_workspace(tmp_path) as workspace:
        await workspace.ledger.open_run("r", plan="p")
        for text in (CHAIN, told, told):
            await _train(workspace, _plan("1.0e-3", text), trained)
    assert [job.system for job in trained] == ["", "think first"]


async def test_the_candidates_of_a_sweep_are_called_what_no_arm_can_be(tmp_path: Path) -> None:
    """Arm `filter-0` beside a sweep of `filter` keeps its folder and its name to itself."""
    swept = CHAIN.replace("learning_rate: 1.0e-3", "sweep: {learning_rate: [1.0e-3, 2.0e-3]}") + VALIDATION
    called: list[str] = []

    class Scores(NoSweep):
        async def candidate(self, name: str, target: Target, identity: str) -> dict[str, float]:
            called.append(name)
            return {"harm_reasoning": float(len(called))}

    async with open_workspace(tmp_path) as workspace:
        await workspace.ledger.open_run("r", plan="p")
        checkpoint = await _train(workspace, _plan("1.0e-3", swept), [], score=Scores())
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == called == ["filter.0", "filter.1"]
    assert checkpoint.path == "checkpoints/filter.0/model"
    for name in called:
        with pytest.raises(SetupError, match="an arm's name names folders"):
            parse_run_file(TEXT.replace("  filter:", f"  {name}:"), name="run.yaml")


class NoSweep:
    async def candidate(self, name: str, target: Target, identity: str) -> dict[str, float]:
        raise AssertionError("there is no sweep")

    async def base(self) -> dict[str, float]:
        raise AssertionError("there is no sweep")


async def _train(
    workspace: Workspace,
    plan: Plan,
    trained: list[TrainingJob],
    *,
    score: NoSweep | None = None,
    judges: dict[str, str] | None = None,
) -> Checkpoint:
    target = Target(settings=plan.run.target, folder=_write_model(workspace.folder / "base", "base"))

    async def train(job: TrainingJob) -> Checkpoint:
        rate = job.settings.learning_rate
        trained.append(job)
        folder = _write_model(job.folder / "model", json.dumps(rate))
        return Checkpoint(
            id="checkpoint_x",
            arm=job.arm,
            parent=job.parent,
            model=target.at(folder).identity,
            path=str(folder.relative_to(job.root)),
            dataset="dataset_x",
            step=1,
            final_loss=0.0,
            metrics={},
        )

    arms = Arms(workspace=workspace, run="r", plan=plan, judges=judges or {}, observer=Silent())
    manifest = DatasetManifest(id="dataset_x", arm="filter", kind="examples", digest="d", shards=(), num_rows=1)
    return await arms.train("filter", manifest, target=target, parent="base", train=train, score=score or NoSweep())


def test_how_a_parent_is_trained_decides_the_units_of_its_children_alone() -> None:
    """Another learning rate repeats a training; where other arms start from its model, their samples are others too."""
    assert run_id(_plan("1.0e-3"), target="t") != run_id(_plan("2.0e-3"), target="t")
    alone = CHAIN.replace("    from: filter\n", "")
    assert run_id(_plan("1.0e-3", alone), target="t") == run_id(_plan("2.0e-3", alone), target="t")
