"""How pairs become a dataset: shares of a second stage, and equal data for the arms that are compared."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tests.unit.trainer.pair_builders import TEMPLATE
from tests.unit.trainer.pair_outcomes import answered, forked, natural, refused

from tracemend.kit.errors import SetupError
from tracemend.trainer.assembly import assemble, assemble_like, available_rows, matched_rows
from tracemend.trainer.examples import usable_examples
from tracemend.trainer.pairs import PairSources, usable_pairs
from tracemend.trainer.settings import AssembleSettings

FIRST = [forked(n, sample=k, variant=f"t{k}") for n in range(20) for k in range(2)] + [
    answered(n) for n in range(50, 80)
]
"""The outcomes of an arm that intervenes: forks, and the base model's own answers to benign prompts."""
SECOND = [refused(n) for n in range(50, 62)]
"""What the model of the first stage refuses."""

PAIRS = AssembleSettings(kind="pairs")
STAGE_2 = AssembleSettings(kind="pairs", pairs_from="first")


def first_stage():
    return usable_pairs(PairSources(mended=FIRST), TEMPLATE, arm="first")


def second_stage():
    return usable_pairs(PairSources(mended=FIRST, refusals=SECOND, answers=FIRST), TEMPLATE, arm="second")


def shape(rows):
    return [(row.prompt.id, row.unit.sample, row.unit.variant) for row in rows]


def test_pairs_need_no_benign_rows_and_a_second_stage_takes_three_to_one():
    assert (AssembleSettings().benign_share, PAIRS.benign_share, STAGE_2.benign_share) == (1 / 3, 0.0, 0.75)
    assert AssembleSettings(kind="pairs", pairs_from="first", benign_share=0.5).benign_share == 0.5
    again = AssembleSettings.model_validate(STAGE_2.model_dump(mode="json"))
    assert again == STAGE_2


def test_the_first_stage_has_all_its_forks():
    assembled = assemble(first_stage(), PAIRS, arm="first")
    assert len(assembled.rows) == 40
    assert {pair.kind for pair in assembled.rows} == {"intervened"}


def test_the_second_stage_mixes_three_benign_to_one_harmful():
    assembled = assemble(second_stage(), STAGE_2, arm="second")
    kinds = [pair.kind for pair in assembled.rows]
    assert (kinds.count("benign"), kinds.count("intervened")) == (12, 4)
    assert assembled.cuts == {"not_drawn_harmful": 36}
    assert {pair.unit.arm for pair in assembled.rows} == {"second"}


def test_the_supervised_counterparts_have_the_very_same_rows():
    """Of harmful prompts the chosen side of each pair, of benign ones the preferred answer."""
    for pairs in (assemble(first_stage(), PAIRS, arm="first"), assemble(second_stage(), STAGE_2, arm="second")):
        examples = assemble_like(usable_examples(FIRST, arm="sft"), pairs.rows, arm="sft", other="pairs")
        assert shape(examples.rows) == shape(pairs.rows)
        for example, pair in zip(examples.rows, pairs.rows, strict=True):
            split = TEMPLATE.split(pair.chosen_tokens)
            assert (example.reasoning, example.answer) == (split.reasoning, split.answer)
        assert examples.cuts["not_in_rows_of"] == 70 - len(pairs.rows)


def test_preference_arms_can_take_the_rows_of_a_supervised_one():
    examples = assemble(usable_examples(FIRST, arm="sft"), AssembleSettings(benign_share=0, rows=7), arm="sft")
    assert shape(assemble_like(first_stage(), examples.rows, arm="po", other="sft").rows) == shape(examples.rows)


def test_an_arm_that_lacks_rows_of_another_is_refused_and_not_compared():
    pairs = assemble(second_stage(), STAGE_2, arm="second")
    fewer = [outcome for outcome in FIRST if outcome.unit.prompt != pairs.rows[0].prompt.id]
    with pytest.raises(SetupError, match=r"arm 'sft' has \d+ of the 16 rows of arm 'second'"):
        assemble_like(usable_examples(fewer, arm="sft"), pairs.rows, arm="sft", other="second")


def test_arms_of_both_kinds_can_be_matched():
    rollouts = usable_pairs(PairSources(mended=[natural(n) for n in range(9)]), TEMPLATE, arm="natural")
    settings = {"sft": AssembleSettings(benign_share=0), "first": PAIRS, "natural": PAIRS}
    candidates = {"sft": usable_examples(FIRST, arm="sft"), "first": first_stage(), "natural": rollouts}
    limit = matched_rows({arm: available_rows(found) for arm, found in candidates.items()}, settings)
    assert limit == 9
    drawn = {arm: assemble(found, settings[arm], arm=arm, limit_rows=limit) for arm, found in candidates.items()}
    assert {arm: len(assembled.rows) for arm, assembled in drawn.items()} == dict.fromkeys(drawn, 9)
    assert shape(drawn["sft"].rows) == shape(drawn["first"].rows), "arms with the same units draw the same ones"


def test_a_second_stage_without_refusals_is_refused_in_plain_words():
    nothing = usable_pairs(PairSources(mended=FIRST[:1]), TEMPLATE, arm="second")
    with pytest.raises(SetupError, match=r"arm 'second' has no rows to train on.*benign 0\.75"):
        assemble(nothing, STAGE_2, arm="second")


def test_pairs_are_counted_by_what_their_prompts_are_for():
    assert available_rows(second_stage()) == {"harmful": 40, "benign": 12, "reasoning": 0}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"pairs_from": "first"}, "set kind: pairs"),
        ({"answers_from": "first"}, "set kind: pairs"),
        ({"kind": "pairs", "reasoning_share": 0.1}, "leave reasoning_share out"),
        ({"rows_of": "first", "rows": 5}, "leave out rows"),
        ({"rows_of": "first", "match": ["second"]}, "leave out rows"),
        ({"rows_of": "first", "subset": "selected"}, "leave out rows"),
        ({"kind": "pair"}, "examples"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(section, words):
    with pytest.raises(ValidationError, match=words):
        AssembleSettings.model_validate(section)
