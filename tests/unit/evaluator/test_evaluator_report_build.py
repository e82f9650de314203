"""The content of report.json: what readers rely on, and that it survives what a run may hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.evaluator.evaluator_facts import ARMS, HARMFUL_SPLITS, corrected, facts, of_prompts

from tracemend.evaluator.report.build import build_report, without_words
from tracemend.evaluator.report.plain import plain
from tracemend.kit.ports import Cost
from tracemend.records import Category, DatasetManifest, Value
from tracemend.redaction import Text

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def built(**changes: Any) -> dict[str, Any]:
    return build_report(facts(**changes))


def codes(report: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in report["trust"]["warnings"]]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return built()


def test_figures_lie_where_readers_look_for_them(report: dict[str, Any]) -> None:
    assert tuple(report["arms"]) == ARMS
    for arm in ARMS:
        figures = report["arms"][arm]["metrics"]
        for metric in ("harm_reasoning", "harm_answer"):
            assert set(figures[metric]) == {*HARMFUL_SPLITS, "all"}
        for metric in ("over_refusal", "capability"):
            assert {"value", "low", "high", "n", "unknown"} <= set(figures[metric]["all"])
    assert report["timing"]["total_s"] == 208.4
    assert report["synthetic"] is True


def test_the_report_is_json_without_nan() -> None:
    broken = {
        arm: replace(c, final_loss=math.nan, metrics={"grad": math.inf}) for arm, c in facts().checkpoints.items()
    }
    report = built(checkpoints=broken)
    text = json.dumps(report, allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")
    assert json.loads(text) == report
    assert report["arms"]["star1"]["training"]["final_loss"] is None


def test_equal_facts_give_equal_reports() -> None:
    assert built() == built()


def test_every_arm_but_the_base_has_differences(report: dict[str, Any]) -> None:
    assert set(report["differences"]) == set(ARMS[1:])
    change = report["differences"]["unsafechain"]["harm_answer"]["all"]
    assert change["low"] <= change["value"] <= change["high"] < 0


# -------------------------------------------------------------------------------------------- funnel


def test_the_funnel_accounts_for_every_row_and_unit(report: dict[str, Any]) -> None:
    funnel = report["funnel"]
    assert funnel["received"] == funnel["admitted"] + funnel["refused"] == 624
    assert sum(funnel["refused_reasons"].values()) == funnel["refused"]
    for flow in funnel["arms"].values():
        assert flow["units"] == sum(flow["states"].values()) + flow["open"]
        assert {state: sum(reasons.values()) for state, reasons in flow["reasons"].items()} == flow["states"]
    assert funnel["arms"]["unsafechain"]["accepted"] == 920
    assert funnel["arms"]["unsafechain"]["rows"] == 96
    assert funnel["arms"]["unsafechain"]["cut"] == {"duplicate": 12, "matched": 704}


def test_arms_that_share_units_show_the_owners() -> None:
    owners = dict.fromkeys(("unsafechain", "unsafechain_selected"), "unsafechain")
    flows = built(owners=owners)["funnel"]["arms"]
    assert flows["unsafechain_selected"]["states"] == flows["unsafechain"]["states"]
    assert flows["unsafechain_selected"]["owner"] == "unsafechain"


def test_units_without_an_outcome_are_open_and_warned_of() -> None:
    report = built(units={"safechain": 600, "star1": 1200, "unsafechain": 3007})
    assert report["funnel"]["arms"]["unsafechain"]["open"] == 7
    assert "open_units" in codes(report)
    assert "open_units" not in codes(built())


# ---------------------------------------------------------------------------------------------- cost


def test_cost_is_summed_and_shared_among_accepted_rows() -> None:
    costs = [
        Cost(stage="generator", num_items=4, num_prompt_tokens=10, num_new_tokens=300, seconds=9.0),
        Cost(stage="teacher", num_items=2, num_prompt_tokens=5, num_new_tokens=100, seconds=1.0, money=2.0),
    ]
    outcomes = {("a", "corrected", ""): 3, ("a", "kept", ""): 1, ("a", "rejected", "low_score"): 6}
    cost = built(costs=costs, outcomes=outcomes, total_s=8.0)["cost"]
    assert cost["total"] == {"prompt_tokens": 15, "new_tokens": 400, "money": 2.0, "seconds": 8.0}
    assert cost["accepted_rows"] == 4
    assert cost["per_accepted_row"] == {"prompt_tokens": 3.75, "new_tokens": 100.0, "money": 0.5, "seconds": 2.0}


def test_training_is_counted_beside_the_stages() -> None:
    checkpoints = {arm: replace(c, metrics={"seconds": 2.0, "tokens": 100.0}) for arm, c in facts().checkpoints.items()}
    cost = built(checkpoints=checkpoints)["cost"]
    assert cost["training"] == {"steps": 72, "tokens": 400.0, "seconds": 8.0}
    assert built(checkpoints={})["cost"]["training"] is None


def test_without_an_accepted_row_there_is_no_price_of_one() -> None:
    assert built(outcomes={})["cost"]["per_accepted_row"] is None


# --------------------------------------------------------------------------------------------- trust


def test_warnings_are_made_of_facts() -> None:
    plain_run = built(
        synthetic=False, owners={}, calibration={axis: _skill() for axis in ("harm", "refusal", "correctness")}
    )
    assert {"synthetic", "same_judge", "uncalibrated"}.isdisjoint(codes(plain_run))
    assert {"synthetic", "same_judge", "uncalibrated"} <= set(codes(built()))


def test_over_refusal_is_matched_only_where_arms_refuse_alike() -> None:
    def arms(refusals: dict[str, int]) -> dict[str, Any]:
        return {
            arm: [*of_prompts([U] * 10), *of_prompts([U] * n + [S] * (20 - n), category=Category.BENIGN)]
            for arm, n in refusals.items()
        }

    alike = built(arms=arms({"base": 9, "a": 1, "b": 2}))["trust"]["over_refusal"]
    assert (alike["matched"], alike["spread"]) == (True, pytest.approx(0.05))
    apart = built(arms=arms({"base": 1, "a": 1, "b": 3}))
    assert apart["trust"]["over_refusal"]["matched"] is False
    assert "unmatched_over_refusal" in codes(apart)
    assert built(arms=arms({"base": 1, "a": 9}))["trust"]["over_refusal"]["matched"] is None


def test_unequal_datasets_are_warned_of() -> None:
    manifests = dict(facts().manifests)
    manifests["star1"] = replace(manifests["star1"], num_rows=64)
    assert "unequal_rows" in codes(built(manifests=manifests))
    assert "unequal_rows" not in codes(built())


def test_unequal_shares_of_harmless_rows_are_warned_of() -> None:
    def mixed(**benign: int) -> dict[str, DatasetManifest]:
        return {
            arm: replace(facts().manifests[arm], counts={"category/benign": rows, "category/harmful": 96 - rows})
            for arm, rows in benign.items()
        }

    assert "unequal_shares" in codes(built(manifests=mixed(star1=32, unsafechain=16)))
    assert "unequal_shares" not in codes(built(manifests=mixed(star1=32, unsafechain=32)))
    lookalike = replace(facts().manifests["star1"], counts={"category/benign": 12, "category/lookalike": 20})
    assert "unequal_shares" not in codes(built(manifests={**mixed(unsafechain=32), "star1": lookalike}))
    assert "unequal_shares" not in codes(built(manifests={}))


def test_many_unknown_samples_are_warned_of() -> None:
    assert "unknown" in codes(built(arms={"base": of_prompts([U] * 9 + [X])}))
    assert "unknown" not in codes(built(arms={"base": of_prompts([U] * 10)}))
    harmless = of_prompts([S] * 100, category=Category.BENIGN)
    assert "unknown" in codes(built(arms={"base": [*of_prompts([U] * 9 + [X]), *harmless]})), "a tenth of the harmful"


def test_a_calibrated_judge_corrects_the_harm_rates() -> None:
    verdicts = {"base": of_prompts([U] * 41 + [S] * 59)}
    trust = built(arms=verdicts, calibration={"harm": _skill(0.9, 0.8)})["trust"]
    assert trust["adjusted"]["base"]["harm_answer"]["value"] == pytest.approx(0.3)
    assert trust["judges"]["harm"]["calibration"]["n"] == 100
    assert built(arms=verdicts)["trust"]["adjusted"] == {}


def _skill(sensitivity: float = 0.95, specificity: float = 0.9) -> dict[str, float]:
    return {"sensitivity": sensitivity, "specificity": specificity, "n": 100}


# ---------------------------------------------------------------------------------------------- gate


def _gate(arm: dict[str, list[Value]], base: dict[str, list[Value]]) -> dict[str, Any]:
    def verdicts(values: dict[str, list[Value]]) -> list[Any]:
        return [
            *of_prompts(values["harm"]),
            *of_prompts(values["refusal"], category=Category.BENIGN),
            *of_prompts(values["capability"], category=Category.REASONING),
        ]

    gate: dict[str, Any] = built(arms={"base": verdicts(base), "arm": verdicts(arm)})["gate"]["arms"]["arm"]
    return gate


def test_an_arm_goes_only_where_all_axes_are_shown() -> None:
    base = {"harm": [U] * 200, "refusal": [S] * 200, "capability": [S] * 200}
    mended = {**base, "harm": [S] * 200}
    assert _gate(mended, base)["decision"] == "go"
    few = {"harm": [S] * 200, "refusal": [S] * 10, "capability": [S] * 200}
    found = _gate(few, {**base, "refusal": [S] * 10})
    assert (found["decision"], found["axes"]["over_refusal"]) == ("inconclusive", "unclear")


@pytest.mark.parametrize(
    ("axis", "worse"), [("harm", [U] * 200), ("refusal", [U] * 100 + [S] * 100), ("capability", [U] * 100 + [S] * 100)]
)
def test_one_axis_that_is_worse_stops_an_arm(axis: str, worse: list[Value]) -> None:
    base = {"harm": [U] * 100 + [S] * 100, "refusal": [S] * 200, "capability": [S] * 200}
    mended = {**base, "harm": [S] * 200}
    assert _gate({**mended, axis: worse}, base)["decision"] == "no_go"


def test_an_axis_that_was_not_measured_leaves_it_open() -> None:
    gate = built(arms={"base": of_prompts([U] * 100), "arm": of_prompts([S] * 100)})["gate"]["arms"]["arm"]
    assert gate["decision"] == "inconclusive"
    assert gate["axes"]["capability"] == "unmeasured"


# ------------------------------------------------------------------------------------------ examples


def test_examples_mark_the_sentences_that_changed() -> None:
    (example,) = built(examples=[corrected()])["examples"]
    assert example["reasoning"]["original"] == [
        [False, "They ask about a frobnicator. "],
        [True, "The lid comes off with a lever. "],
        [False, "Then it spins."],
    ]
    assert example["reasoning"]["mended"] == [
        [False, "They ask about a frobnicator. "],
        [True, "An open one could hurt people. "],
        [False, "Then it spins."],
    ]
    assert (example["original"]["reasoning"], example["mended"]["reasoning"]) == ("unsafe", "safe")


def test_without_its_examples_a_report_holds_no_words_and_all_figures() -> None:
    report = built(examples=[corrected()])
    figures = without_words(json.dumps(report).encode())
    assert "frobnicator" in json.dumps(report)
    assert b"frobnicator" not in figures
    assert json.loads(figures) == report | {"examples": []}


def test_sentences_of_the_miniature_world_are_told_apart() -> None:
    before = "they ask about it . it spins fast . so i tell them ."
    (example,) = built(examples=[corrected(reasoning=before)])["examples"]
    assert [run for _, run in example["reasoning"]["original"]] == [before]
    shared = replace(
        corrected(reasoning=before), final=corrected(reasoning=before.replace("so i", "wait , i")).original
    )
    (example,) = built(examples=[shared])["examples"]
    assert example["reasoning"]["mended"] == [
        [False, "they ask about it . it spins fast . "],
        [True, "wait , i tell them ."],
    ]


def test_examples_give_back_the_whole_text_or_say_what_they_leave_out() -> None:
    words = "One sentence follows another. " * 1000
    (example,) = built(examples=[corrected(reasoning=words)])["examples"]
    shown = "".join(run for _, run in example["reasoning"]["original"])
    assert words.startswith(shown)
    assert len(shown) + example["reasoning"]["original_chars_left_out"] == len(words)
    assert len(shown) <= 6000


def test_outcomes_that_lost_a_verdict_are_no_examples() -> None:
    assert built(examples=[replace(corrected(), original=None)])["examples"] == []


def test_plain_values_are_what_json_knows() -> None:
    value = {"a": (Text("words"), math.nan, -math.inf, None, True), Text("key"): Category.HARMFUL, "b": "\ud800"}
    assert plain(value) == {"a": ["words", None, None, None, True], "key": "harmful", "b": "\\ud800"}
    with pytest.raises(AssertionError, match="no place in a report"):
        plain({"a": object()})


def test_a_sweep_is_told_with_every_candidate_and_the_chosen_one() -> None:
    sweeps = built()["sweeps"]
    assert list(sweeps) == ["unsafechain"]
    rates = [(c["learning_rate"], c["chosen"]) for c in sweeps["unsafechain"]["candidates"]]
    assert rates == [(1e-4, False), (5e-4, True), (1e-3, False)]
    assert sweeps["unsafechain"]["candidates"][2]["metrics"] == {"harm_reasoning": 0.0, "over_refusal": 0.3}


def test_every_pair_of_arms_is_in_the_report() -> None:
    comparisons = built()["comparisons"]
    arms = list(built()["arms"])
    assert len(comparisons) == len(arms) * (len(arms) - 1) // 2
    assert {"arm", "against", "differences", "harm_reduction"} <= set(comparisons[0])
