"""A run's costs add up, and go where its units' work went."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import run_small, small

from tracemend.cli.__main__ import main
from tracemend.embedded.budget import WALL, Overspent, overspent
from tracemend.embedded.continuing import CONTINUATION
from tracemend.embedded.costs import Amount, RunCosts, costs_of
from tracemend.embedded.looking import open_run
from tracemend.embedded.runfile import LimitSettings
from tracemend.embedded.workspace import open_workspace
from tracemend.kit.ports import Cost
from tracemend.kit.prices import Price
from tracemend.records import Category, Intervention, Trajectory
from tracemend.topics import TRAJECTORIES

PRICES = {"generator": Price(per_million_new=1e6), "teacher": Price(per_million_prompt=1e6, per_million_new=1e6)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    run_small(made)
    return made


def account(folder: Path, prices: dict[str, Price] | None = None) -> RunCosts:
    async def body() -> RunCosts:
        async with open_run(folder) as opened:
            its = opened.workspace
            return await costs_of(its.ledger, its.results, run=opened.run, plan=opened.plan, prices=prices)

    return asyncio.run(body())


def test_outcomes_and_the_rest_add_up_to_the_stages(folder: Path) -> None:
    costs = account(folder, PRICES)
    attributed = sum((one.amount for one in costs.outcomes), costs.unattributed)
    stages = sum((stage.amount for stage in costs.stages), Amount())
    for field in fields(Amount):
        assert getattr(attributed, field.name) == pytest.approx(getattr(costs.total, field.name))
        assert getattr(stages, field.name) == pytest.approx(getattr(costs.total, field.name))
    assert costs.total.new_tokens > 0
    assert WALL not in {stage.stage for stage in costs.stages}
    assert costs.wall_s > 0


def test_a_teacher_is_paid_for_by_the_units_that_it_wrote_for(folder: Path) -> None:
    costs = account(folder)
    (teacher,) = (stage.amount for stage in costs.stages if stage.stage == "teacher")
    corrected = [one for one in costs.outcomes if one.state == "corrected"]
    others = [one for one in costs.outcomes if one.state != "corrected"]
    per_sample = {one.amount.new_tokens / one.num_units for one in others if one.arm == "filter"}
    assert {one.arm for one in corrected} == {"rewrite"}
    assert sum(one.amount.new_tokens for one in corrected) > teacher.new_tokens > 0
    assert all(one.amount.new_tokens / one.num_units > max(per_sample) for one in corrected)


def test_what_is_measured_belongs_to_no_unit(folder: Path) -> None:
    costs = account(folder)
    (generator,) = (stage for stage in costs.stages if stage.stage == "generator")
    num_measured = 16  # of the run file's benchmarks, one sample each
    share = num_measured / generator.num_items
    assert costs.unattributed.prompt_tokens == pytest.approx(generator.amount.prompt_tokens * share)


def test_work_that_another_run_paid_for_costs_nothing(tmp_path: Path) -> None:
    """A run over more prompts in the same folder: the samples of the first are found again."""
    run_small(tmp_path)
    first = account(tmp_path)
    more = small().prompts[0].model_copy(update={"count": 45})
    run_small(tmp_path, prompts=[more, *small().prompts[1:]])
    second = account(tmp_path)
    assert second.run != first.run
    assert 0 < second.total.new_tokens < first.total.new_tokens / 2
    for field in fields(Amount):
        assert getattr(second.unattributed, field.name) >= -1e-9, field.name
    attributed = sum((one.amount for one in second.outcomes), second.unattributed)
    assert attributed.new_tokens == pytest.approx(second.total.new_tokens)


def test_continuations_that_measure_a_trace_are_no_cost_of_its_run(folder: Path, tmp_path: Path) -> None:
    """They are paid for by a run of their own."""
    copied = shutil.copytree(folder, tmp_path / "run")
    before = account(copied)

    async def continued() -> None:
        async with open_workspace(copied) as workspace:
            work = [address async for _, address in workspace.ledger.work(paid_by=before.run)]
            records = [record for address in work for _, record in await workspace.results.read(address)]
            sample = next(r for r in records if isinstance(r, Trajectory) and r.prompt.category is Category.HARMFUL)
            step = Intervention(kind=CONTINUATION, strategy="csr", cut_token=0)
            made = replace(sample, id="trajectory_of_a_place", intervention=step, num_new_tokens=1000)
            frame = workspace.results.frame([(TRAJECTORIES, made)])
            await workspace.results.save({"place": frame}, run=f"{before.run}-csr", costs={})

    asyncio.run(continued())
    after = account(copied)
    assert replace(after, wall_s=0) == replace(before, wall_s=0)


def test_prices_fill_in_for_stages_without_money(folder: Path) -> None:
    assert account(folder).total.money == 0
    priced = account(folder, PRICES)
    tokens = {stage.stage: stage.amount for stage in priced.stages}
    teacher = tokens["teacher"].prompt_tokens + tokens["teacher"].new_tokens
    assert priced.total.money == pytest.approx(tokens["generator"].new_tokens + teacher)
    assert priced.per_accepted_row is not None
    assert priced.per_accepted_row.money == pytest.approx(priced.total.money / priced.accepted_rows)


def test_the_command_prints_the_same_account(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("generator: {per_million_new: 1000000}\nteacher: {per_million_new: 1000000}\n")
    with pytest.raises(SystemExit) as ended:
        main(["costs", str(folder), "--prices", str(prices), "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"]["money"] == pytest.approx(told["total"]["new_tokens"])
    with pytest.raises(SystemExit):
        main(["costs", str(folder)])
    assert "rows gained; each took" in capsys.readouterr().out


def test_the_same_account_comes_from_the_urls_that_services_have(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEMEND_LEDGER", f"sqlite:{folder / 'state' / 'ledger.db'}")
    monkeypatch.setenv("TRACEMEND_STORE", f"file:{folder / 'state'}")
    run = account(folder).run
    with pytest.raises(SystemExit):
        main(["costs", run, "--json"])
    by_url = json.loads(capsys.readouterr().out)
    assert by_url["total"]["new_tokens"] == account(folder).total.new_tokens
    with pytest.raises(SystemExit) as ended:
        main(["costs", "run_that_is_not"])
    assert ended.value.code == 2
    assert "no such run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "part"), [("generator: {per_milion: 1}", "per_milion"), ("[a", "as YAML"), ("generator: 3", "generator")]
)
def test_a_price_table_that_is_wrong_is_told(
    folder: Path, tmp_path: Path, text: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["costs", str(folder), "--prices", str(prices)])
    assert ended.value.code == 2
    assert part in capsys.readouterr().err


def test_the_first_limit_that_is_reached_is_named() -> None:
    costs = [Cost(stage="judge", num_prompt_tokens=4, num_new_tokens=6, money=0.5), Cost(stage=WALL, seconds=3600)]
    assert overspent(LimitSettings(tokens=11, money=0.6, hours=2), costs) is None
    assert overspent(LimitSettings(tokens=10), costs) == Overspent(limit="tokens", amount=10, allowed=10)
    assert overspent(LimitSettings(money=0.5, tokens=11), costs) == Overspent(limit="money", amount=0.5, allowed=0.5)
    assert overspent(LimitSettings(hours=1), costs) == Overspent(limit="hours", amount=1, allowed=1)
    assert overspent(LimitSettings(hours=1), []) is None
