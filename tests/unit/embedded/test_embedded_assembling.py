"""Datasets of arms that read each other: two stages of pairs, their supervised counterparts, and the laws on them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.unit.embedded.small_runs import TEXT
from tests.unit.trainer.pair_outcomes import answered, forked, refused

from tracemend.embedded.arms import Arms
from tracemend.embedded.exporting import export
from tracemend.embedded.laws import Finding, check_laws
from tracemend.embedded.looking import OpenRun
from tracemend.embedded.models import Target
from tracemend.embedded.phases import results_of
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import parse_run_file
from tracemend.embedded.training import check_trainings
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import AdmittedPrompt
from tracemend.records import DatasetManifest, Outcome, Unit
from tracemend.topics import OUTCOMES, PROMPTS
from tracemend.trainer import dataset
from tracemend.trainer.pair_dataset import read_pairs
from tracemend.trainer.pair_table import PAIRS
from tracemend.trainer.tables import digest_of_rows

RUN = "run"
ARMS = """\
arms:
  sft_both:
    correct: {strategy: intervene}
    assemble: {rows_of: second}
  second:
    from: first
    correct: {strategy: refused}
    assemble: {kind: pairs, pairs_from: first}
  sft:
    correct: {strategy: intervene}
    assemble: {rows_of: first}
  first:
    correct: {strategy: intervene}
    assemble: {kind: pairs}
    train: {learning_rate: 1.0e-3}
"""


def plan_of(arms: str = ARMS) -> Plan:
    head, rest = TEXT.split("arms:\n")
    return resolve(parse_run_file(head + arms + "evaluate" + rest.split("evaluate", 1)[1], name="run.yaml"))


FORKS = [forked(n, arm="first") for n in range(6)]
ANSWERS = [answered(n, arm="first") for n in range(50, 60)]
REFUSALS = [refused(n) for n in range(50, 56)]


@asynccontextmanager
async def a_run(folder: Path, *more: Outcome) -> AsyncIterator[Workspace]:
    """A run whose units ended in the outcomes above, and in `more`."""
    outcomes = [*FORKS, *ANSWERS, *REFUSALS, *more]
    async with open_workspace(folder) as workspace:
        await workspace.ledger.open_run(RUN, plan="plan")
        prompts = {v.trajectory.prompt.id: v.trajectory.prompt for o in outcomes for v in [o.final or o.original] if v}
        where = await workspace.results.write({name: ((PROMPTS, prompt),) for name, prompt in prompts.items()})
        admitted = [AdmittedPrompt(row=n, prompt=p, address=where[p]) for n, p in enumerate(sorted(prompts), start=1)]
        await workspace.ledger.admit(RUN, prompts=admitted, refused=[], units=[o.unit for o in outcomes])
        await conclude(workspace, outcomes)
        yield workspace


async def conclude(workspace: Workspace, outcomes: Sequence[Outcome], *, epoch: int = 0) -> None:
    where = await workspace.results.write({outcome.id: ((OUTCOMES, outcome),) for outcome in outcomes})
    await workspace.ledger.conclude(RUN, [(o, where[o.id]) for o in outcomes], epoch=epoch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as assembly sees one: a tokenizer, and weights that nobody opens."""
    folder = tmp_path_factory.mktemp("model")
    tiny_models.build_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (folder / "model.safetensors").write_text("weights", encoding="utf-8")
    return folder


async def publish(workspace: Workspace, plan: Plan, model: Path | None) -> dict[str, DatasetManifest]:
    arms = Arms(workspace=workspace, run=RUN, plan=plan, judges={"harm": "j"}, observer=Silent())
    target = Target(settings=plan.run.target, folder=model)
    return {arm: await arms.publish(arm, target=target) for arm in plan.order}


def units_in(folder: Path, arm: str) -> list[tuple[str, int, str]]:
    return [(row["prompt_id"], row["sample"], row["variant"]) for row in dataset.read_rows(folder / "datasets" / arm)]


async def test_both_stages_and_their_counterparts_are_published(tmp_path: Path, model: Path) -> None:
    async with a_run(tmp_path) as workspace:
        manifests = await publish(workspace, plan_of(), model)
    assert {arm: (m.kind, m.num_rows) for arm, m in manifests.items()} == {
        "first": ("pairs", 6),
        "second": ("pairs", 8),
        "sft": ("examples", 6),
        "sft_both": ("examples", 8),
    }
    second = read_pairs(tmp_path / "datasets" / "second")
    assert [pair.kind for pair in second].count("benign") == 6
    assert {pair.unit.arm for pair in second} == {"second"}
    assert units_in(tmp_path, "sft") == units_in(tmp_path, "first")
    assert units_in(tmp_path, "sft_both") == units_in(tmp_path, "second")


async def test_a_dataset_follows_the_outcomes_of_every_arm_that_it_reads(tmp_path: Path, model: Path) -> None:
    """A refusal that was not there before changes the second stage, and with it what takes its rows; no other."""
    async with a_run(tmp_path, dataclasses.replace(refused(56), reason="answered")) as workspace:
        before = await publish(workspace, plan_of(), model)
        assert await publish(workspace, plan_of(), model) == before
        num_phases = len(await workspace.ledger.phases(RUN))
        await conclude(workspace, [refused(56)], epoch=1)
        after = await publish(workspace, plan_of(), model)
        assert len(await workspace.ledger.phases(RUN)) == num_phases + 2
    changed = {arm for arm in before if before[arm].digest != after[arm].digest}
    assert changed == {"second", "sft_both"}


async def test_pairs_of_a_target_without_a_folder_are_refused(tmp_path: Path) -> None:
    async with a_run(tmp_path) as workspace:
        with pytest.raises(SetupError, match="only a model in a local folder"):
            await publish(workspace, plan_of(), None)


def test_arms_are_done_in_the_order_in_which_they_read_each_other() -> None:
    plan = plan_of()
    place = plan.order.index
    assert place("first") < place("second") < place("sft_both")
    assert place("first") < place("sft")
    assert plan.owners["sft"] == plan.owners["sft_both"] == plan.owners["first"] == "first"
    assert plan.read_by("sft_both") == ("sft_both", "second", "first")
    chained = plan_of(ARMS.replace("rows_of: first", "rows_of: sft_both"))
    assert chained.read_by("sft") == ("sft", "sft_both", "second", "first")


def test_an_arm_waits_for_the_model_that_samples_the_units_it_reads() -> None:
    """`matched` reads units that `first` samples once it is trained, though it starts from the base itself."""
    matched = "  a_matched:\n    correct: {strategy: filter}\n    assemble: {match: [second]}\n"
    order = plan_of(ARMS.replace("arms:\n", "arms:\n" + matched)).order
    assert order.index("first") < order.index("a_matched")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rows_of: first", "rows_of: frist", r"sft\.assemble\.rows_of: no arm 'frist'.*did you mean 'first'"),
        ("pairs_from: first", "pairs_from: base", r"second\.assemble\.pairs_from: no arm 'base' that makes rows"),
        ("rows_of: first", "rows_of: sft", r"sft\.assemble\.rows_of: names the arm itself"),
        ("rows_of: first", "match: [sft_both]", r"'sft_both' takes the rows of 'second': match that arm"),
        ("{kind: pairs}", "{kind: pairs, answers_from: second}", r"'second' starts from what 'first' trains"),
    ],
)
def test_a_run_file_that_names_what_cannot_be_read_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        plan_of(ARMS.replace(old, new))


def test_arms_that_take_each_others_rows_are_refused() -> None:
    with pytest.raises(SetupError, match="wait for each other in a circle"):
        plan_of(ARMS.replace("{kind: pairs}", "{kind: pairs, rows_of: sft}"))


def test_an_algorithm_that_does_not_learn_from_what_the_arm_assembles_is_refused_before_any_work() -> None:
    with pytest.raises(SetupError, match=r"arms\.first: algorithm 'sft' learns from examples.*set assemble\.kind"):
        check_trainings(plan_of())
    with pytest.raises(SetupError, match=r"arms\.first\.train: unknown algorithm 'intervened'"):
        check_trainings(plan_of(ARMS.replace("{learning_rate", "{algorithm: intervened, learning_rate")))
    check_trainings(plan_of(ARMS.replace("{learning_rate", "{algorithm: intervened_po, learning_rate")))


async def test_a_dataset_of_pairs_is_exported(tmp_path: Path, model: Path) -> None:
    async with a_run(tmp_path / "run") as workspace:
        plan = plan_of()
        manifests = await publish(workspace, plan, model)
        opened = OpenRun(workspace=workspace, run=RUN, plan=plan)
        exported = await export(opened, "second", to=tmp_path / "out", what="dataset", force=False)
    assert exported.identity == manifests["second"].digest
    assert read_pairs(tmp_path / "out") == read_pairs(tmp_path / "run" / "datasets" / "second")


# ------------------------------------------------------------------------------------------------- laws


async def published_laws(workspace: Workspace, plan: Plan) -> dict[str, Finding]:
    assert await results_of(workspace, RUN)
    findings = await check_laws(workspace, run=RUN, plan=plan)
    return {f.law: f for f in findings if f.law.startswith(("published rows", "every pair"))}


async def test_the_laws_of_pairs_hold_and_break(tmp_path: Path, model: Path) -> None:
    plan = plan_of()
    async with a_run(tmp_path) as workspace:
        await publish(workspace, plan, model)
        found = await published_laws(workspace, plan)
        assert {law: finding.checked for law, finding in found.items() if finding.holds} == {
            "published rows of first = manifest rows, each from a kept, corrected or refused unit": 6,
            "every pair of first shares its prefix": 6,
            "published rows of second = manifest rows, each from a kept, corrected or refused unit": 8,
            "every pair of second shares its prefix": 8,
            "published rows of sft = manifest rows, each from a kept or corrected unit": 6,
            "published rows of sft_both = manifest rows, each from a kept or corrected unit": 8,
        }
        assert len(found) == 6
        await conclude(workspace, [dataclasses.replace(REFUSALS[0], reason="answered")], epoch=1)
        broken = [f for f in (await published_laws(workspace, plan)).values() if not f.holds]
        assert [f.detail for f in broken] == ["1 rows come from no usable unit, such as second/prompt_0050/-1"]


async def test_a_pair_that_does_not_share_its_prefix_breaks_its_law(tmp_path: Path, model: Path) -> None:
    """Forged rows with a manifest of their own: the manifest cannot say that they are pairs."""
    plan = plan_of()
    async with a_run(tmp_path) as workspace:
        await publish(workspace, plan, model)
        rows = dataset.read_rows(tmp_path / "datasets" / "first")
        rows[2]["prefix_tokens"] += 4
        forge(tmp_path / "datasets" / "first", rows)
        found = await published_laws(workspace, plan)
    law = found["every pair of first shares its prefix"]
    unit = Unit(arm="first", prompt=rows[2]["prompt_id"])
    assert (law.holds, law.detail) == (False, f"1 do not, such as first/{unit.prompt}/0/t1")


def forge(folder: Path, rows: list[dict[str, object]]) -> None:
    (shard,) = (folder / "data").iterdir()
    shard.write_bytes(PAIRS.encode(rows))
    manifest = dataclasses.replace(dataset.read_manifest(folder), digest=digest_of_rows(rows))
    (folder / "manifest.json").write_text(json.dumps(dataclasses.asdict(manifest)), encoding="utf-8")


LATER = """\
  sft_later:
    from: first
    assemble: {units_of: sft, rows_of: second}
    train: {learning_rate: 1.0e-3}
"""


async def test_a_later_supervised_stage_takes_the_units_of_the_first_whatever_it_starts_from(
    tmp_path: Path, model: Path
) -> None:
    plan = plan_of(ARMS + LATER)
    assert plan.owners["sft_later"] == "first", "it has no units of its own"
    assert "sft_later" not in plan.owned_by("first")
    async with a_run(tmp_path) as workspace:
        manifests = await publish(workspace, plan, model)
    assert (manifests["sft_later"].kind, manifests["sft_later"].num_rows) == ("examples", 8)
    assert units_in(tmp_path, "sft_later") == units_in(tmp_path, "second")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("units_of: sft,", "units_of: sft_later,", r"no arm 'sft_later' that has units of its own"),
        ("units_of: sft, ", "", r"needs a `correct` section to make its rows, or assemble.units_of"),
        ("    from: first\n", "    correct: {strategy: filter}\n", r"takes another arm's units: leave `correct` out"),
    ],
)
def test_an_arm_has_either_units_of_its_own_or_those_of_another(old: str, new: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        plan_of(ARMS + LATER.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pairs_from: first}", "pairs_from: second}", r"arms\.second\.assemble: the units of 'second' give no harmful"),
        ("pairs_from: first}", "pairs_from: sft}", ""),
        (", pairs_from: first}", "}", r"arms\.second\.assemble: the units of 'second' give no harmful pairs"),
        (", pairs_from: first}", ", benign_share: 1.0, answers_from: first}", ""),
        ("{kind: pairs}", "{kind: pairs, benign_share: 0.5}", r"arms\.first\.assemble: .* no benign pairs.* is 0\.5"),
        ("strategy: intervene}\n    assemble: {kind: pairs}", "strategy: filter}\n    assemble: {kind: pairs}",
         r"arms\.\w+\.assemble: the units of 'first' give no harmful pairs"),
        ("strategy: intervene}\n    assemble: {kind: pairs}", "strategy: contrast}\n    assemble: {kind: pairs}", ""),
    ],
)  # fmt: skip
def test_pairs_of_units_that_give_none_are_refused_before_any_work(old: str, new: str, words: str) -> None:
    """`words` is empty where the arms can have what they want."""
    sound = ARMS.replace("{learning_rate", "{algorithm: intervened_po, learning_rate")
    assert old in sound
    plan = plan_of(sound.replace(old, new))
    if not words:
        check_trainings(plan)
        return
    with pytest.raises(SetupError, match=words):
        check_trainings(plan)
