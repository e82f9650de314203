"""The committed table is of this world, this recipe and these claims; and a table says what it was made with."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

from benchmarks.fidelity.claim import Claim
from benchmarks.fidelity.claims import COMPARISON, FACTORS
from benchmarks.fidelity.page import Seed, digests, render
from benchmarks.fidelity.runs import (
    ENCYCLOPAEDIA,
    FULL,
    HARM_SPLITS,
    METRICS,
    SMALL,
    SMALL_SELECTED,
    Evidence,
    comparison,
    factors,
    recipe_digest,
)
from benchmarks.fidelity.tables import stated
from tests.unit.trainer.trainer_builders import example_of

from tracemend.embedded.runfile import load_run_file

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "fidelity.md"
SWEEP = ROOT / "examples" / "unsafechain-sweep.yaml"
REMEDY = "run `make fidelity` and commit docs/fidelity.md"
SPLITS = (*HARM_SPLITS, ENCYCLOPAEDIA, "lookalike", "arithmetic")


def evidence_of(seed: int, arms: tuple[str, ...]) -> Evidence:
    """Invented scores: every arm's differ, and every seed's."""
    scores = {
        arm: {
            metric: {(split, str(n)): float(n % (place + 2) <= seed) for split in SPLITS for n in range(20)}
            for metric in METRICS
        }
        for place, arm in enumerate(arms)
    }
    return Evidence(
        seed=seed,
        scores=scores,
        undecided=dict.fromkeys(arms, frozenset()),
        quadrants={arm: {"unsafe/unsafe": 20} for arm in arms},
        groups={},
        rows={arm: [] for arm in arms[1:]},
        matched=arms[1:],
    )


def page() -> str:
    arms = ("base", "safechain", "star1", "unsafechain", "unsafechain_selected", FULL, SMALL, SMALL_SELECTED)
    crossed = ("base", *factors(seed=0).arms)
    seeds = [Seed(comparison=evidence_of(seed, arms), factors=evidence_of(seed, crossed)) for seed in (0, 1)]
    return render(seeds, num_prompts=20, today=datetime.date(2026, 1, 2))


def test_the_committed_table_is_of_this_world_and_recipe() -> None:
    assert TABLE.is_file(), f"there is no {TABLE.name}: {REMEDY}"
    found, num_prompts = stated(TABLE.read_text(encoding="utf-8"))
    assert found == digests(num_prompts=num_prompts), f"the world, the recipe or the claims have changed: {REMEDY}"


def test_a_table_states_what_it_stands_on() -> None:
    assert stated(page()) == (digests(num_prompts=20), 20)


def test_a_table_holds_every_claim_with_its_nature_and_a_synthetic_banner() -> None:
    text = page()
    assert "SYNTHETIC" in text
    for claim in (*COMPARISON, *FACTORS):
        assert f"| {claim.says} | {claim.nature.value} |" in text
        assert f"| `{claim.key}` |" in text


def claim_of(key: str) -> Claim:
    return next(claim for claim in COMPARISON if claim.key == key)


def test_missing_verdicts_are_read_against_unsafechain_at_worst() -> None:
    """Harm 0 against 1 on one prompt; on two more, a verdict of one of the two is missing."""
    split = HARM_SPLITS[0]
    scores = {
        "unsafechain": {(split, "a"): 0.0, (split, "b"): 0.0},
        "safechain": {(split, "a"): 1.0, (split, "c"): 1.0},
    }
    evidence = dataclasses.replace(
        evidence_of(0, ("base", "safechain", "unsafechain")),
        scores={arm: {"harm_reasoning": found} for arm, found in scores.items()},
        undecided={"unsafechain": frozenset({(split, "c")}), "safechain": frozenset({(split, "b")})},
    )
    assert claim_of("harm-below-filter").of(evidence).value == -1.0
    assert claim_of("harm-below-filter-at-worst").of(evidence).value == (-1.0 + 0.0 + 0.0) / 3


def test_an_identity_is_as_bad_as_its_worst_seed() -> None:
    """The mean would hide one seed's fault behind the others."""
    good = evidence_of(0, ("base", "safechain", "unsafechain"))
    bad = dataclasses.replace(good, rows={**good.rows, "safechain": [example_of(0)]})
    assert claim_of("equal-rows").of(good).value == 0
    assert claim_of("equal-rows").holds([good, good, bad]) is False


def test_a_changed_size_or_recipe_changes_the_digest() -> None:
    assert recipe_digest(num_prompts=20) != recipe_digest(num_prompts=21)
    assert stated("no table") == ({}, 0)


def test_the_seed_reaches_everything_that_is_drawn() -> None:
    for made in (comparison(seed=3), factors(seed=3)):
        assert made.seed == 3
        assert made.evaluate is not None
        sources = [*made.prompts, *(b.prompts for b in made.evaluate.benchmarks.values())]
        sources += [b.prompts for b in made.evaluate.validation.values()]
        assert {source.options["seed"] for source in sources} == {3}
        for arm in made.arms.values():
            assert arm.train is not None
            assert (arm.assemble.seed, arm.train.seed) == (3, 3)


def test_the_factors_cross_prompts_with_targets_at_equal_rows() -> None:
    arms = factors(seed=0).arms
    cells = {(arm.select.rule, arm.correct.strategy if arm.correct else "") for arm in arms.values()}
    assert len(cells) == 4
    assert {arm.assemble.match for arm in arms.values()} == {tuple(arms)}
    assert len({(arm.assemble.rows, arm.assemble.benign_share) for arm in arms.values()}) == 1


def test_arms_of_all_and_of_few_corrections_differ_from_unsafechain_in_rows_and_learning_rate_alone() -> None:
    arms = comparison(seed=0).arms
    like = arms["unsafechain"]
    for name, rows in ((FULL, None), (SMALL, 36), (SMALL_SELECTED, 36)):
        arm = arms[name]
        assert (arm.select, arm.correct, arm.keep) == (like.select, like.correct, like.keep)
        assert arm.train is not None
        assert like.train is not None
        assert arm.train.model_copy(update={"learning_rate": like.train.learning_rate}) == like.train
        assert (arm.assemble.rows, arm.assemble.match) == (rows, ())
        assert arm.assemble.benign_share == like.assemble.benign_share
    assert (arms[SMALL].assemble.subset, arms[SMALL_SELECTED].assemble.subset) == ("all", "selected")


def test_the_rates_of_these_arms_are_among_those_that_were_swept() -> None:
    swept = load_run_file(SWEEP).arms
    arms = comparison(seed=0).arms
    for name in ("safechain", "star1", "unsafechain", "unsafechain_selected", FULL, SMALL, SMALL_SELECTED):
        ours, theirs = arms[name].train, swept[name].train
        assert ours is not None
        assert theirs is not None
        assert theirs.sweep is not None
        assert ours.learning_rate in theirs.sweep.learning_rate
        assert arms[name].assemble.rows == swept[name].assemble.rows
