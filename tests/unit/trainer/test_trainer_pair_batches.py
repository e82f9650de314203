"""Batches of pairs: every counted token is predicted once, from what stands before it in its own text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.trainer.pair_builders import pair_of, rows_of
from tests.unit.trainer.trainer_builders import words

from tracemend.kit.errors import SetupError
from tracemend.trainer.pair_batches import IGNORED_LABEL, NOBODY, chosen_layout, collate, num_positions, strands_of
from tracemend.trainer.pair_rows import PairRow

PAIRS = [pair_of(number, shared=4 + 9 * number) for number in range(5)]
EVERYTHING = {"reach": "response", "nll": "response"}


def predictions(batch) -> dict[tuple[str, int], list[tuple[tuple[int, ...], int]]]:
    """Owner to what it has predicted: (the tokens that the position may see, in the order of their places, label)."""
    found: dict[tuple[str, int], list[tuple[tuple[int, ...], int]]] = {}
    mask = batch["attention_mask"]
    for row in range(len(batch["input_ids"])):
        for at, label in enumerate(batch["shift_labels"][row].tolist()):
            if mask.dim() == 4:
                seen = [key for key in range(len(batch["input_ids"][row])) if mask[row, 0, at, key]]
            else:
                seen = [key for key in range(at + 1) if mask[row, key]]
            places = batch["position_ids"][row, seen].tolist()
            for field in ("sides", "likelihoods"):
                owner = batch[field][row, at].item()
                if owner != NOBODY:
                    assert places == list(range(len(seen))), "a text has a gap"
                    text = tuple(batch["input_ids"][row, seen].tolist())
                    found.setdefault((field, owner), []).append((text, label))
    return {key: sorted(value, key=lambda each: len(each[0])) for key, value in found.items()}


def expected(row: PairRow, pair: int) -> dict[tuple[str, int], list[tuple[tuple[int, ...], int]]]:
    def span(response, start, end):
        return [(row.prompt_ids + response[:at], response[at]) for at in range(start, end)]

    return {
        ("sides", 2 * pair): span(row.chosen_ids, row.prefix, row.chosen_end),
        ("sides", 2 * pair + 1): span(row.rejected_ids, row.prefix, row.rejected_end),
        ("likelihoods", pair): span(row.chosen_ids, row.nll_start, row.nll_end),
    }


@pytest.mark.parametrize("layout", ["plain", "shared"])
@pytest.mark.parametrize("spans", [{}, EVERYTHING, {**EVERYTHING, "start": "response"}, {"nll": "response"}])
def test_every_counted_token_is_predicted_from_its_own_text(layout, spans):
    rows = rows_of(PAIRS, **spans)
    wanted = {key: value for pair, row in enumerate(rows) for key, value in expected(row, pair).items()}
    assert predictions(collate(rows, layout=layout, pad=0)) == wanted


@settings(deadline=None)  # a busy machine is no fault
@given(
    prompt=st.integers(1, 3),
    shared=st.integers(0, 4),
    tails=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5),
    nll=st.booleans(),
)
def test_any_shape_of_pair_is_laid_out_right(prompt, shared, tails, nll):
    rows = []
    for chosen, rejected in tails:
        prefix = tuple(range(100, 100 + shared))
        sides = prefix + tuple(range(200, 200 + chosen)), prefix + tuple(range(300, 300 + rejected))
        rows.append(
            PairRow(
                pair=PAIRS[0],
                prompt_ids=tuple(range(1, 1 + prompt)),
                chosen_ids=sides[0],
                rejected_ids=sides[1],
                prefix=shared,
                chosen_end=len(sides[0]),
                rejected_end=len(sides[1]),
                nll_start=0 if nll else shared,
                nll_end=len(sides[0]),
            )
        )
    wanted = {key: value for pair, row in enumerate(rows) for key, value in expected(row, pair).items()}
    assert predictions(collate(rows, layout="shared", pad=0)) == wanted
    assert predictions(collate(rows, layout="plain", pad=0)) == wanted


def test_the_prefix_stands_once_in_the_shared_layout():
    (row,) = rows_of([pair_of(1, shared=40)])
    shared = len(row.prompt_ids) + row.prefix
    assert num_positions(row, "plain") - num_positions(row, "shared") == shared - 1
    for layout in ("plain", "shared"):
        assert sum(map(len, strands_of(row, 0, layout))) == num_positions(row, layout)


def test_short_pairs_are_packed_beside_each_other_and_rows_stay_as_long():
    rows = rows_of([pair_of(0, shared=90), pair_of(1, shared=2), pair_of(2, shared=2)])
    batch = collate(rows, layout="shared", pad=0)
    assert batch["input_ids"].shape == (2, num_positions(rows[0], "shared"))
    wanted = {key: value for pair, row in enumerate(rows) for key, value in expected(row, pair).items()}
    assert predictions(batch) == wanted, "pairs in one row see each other"


def test_tokens_behind_the_last_one_that_counts_are_not_computed():
    (reasoning,), (response,) = rows_of(PAIRS[:1]), rows_of(PAIRS[:1], reach="response")
    assert num_positions(reasoning, "plain") < num_positions(response, "plain")


def test_positions_that_count_nowhere_have_no_label():
    batch = collate(rows_of(PAIRS), layout="shared", pad=0)
    counts = (batch["sides"] != NOBODY) | (batch["likelihoods"] != NOBODY)
    assert ((batch["shift_labels"] != IGNORED_LABEL) == counts).all()


def test_a_mask_of_numbers_hides_what_the_mask_of_truths_hides():
    rows = rows_of(PAIRS)
    sees = collate(rows, layout="shared", pad=0)["attention_mask"]
    added = collate(rows, layout="shared", pad=0, mask_as_float=True)["attention_mask"]
    assert ((added == 0) == sees).all()
    assert sees.any(-1).all(), "a position that sees nothing makes attention divide by zero"


def test_prefixes_are_shared_where_the_model_can_and_it_pays():
    from transformers import AutoConfig, AutoModelForCausalLM

    def model(architecture, **options):
        small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8, **options}
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **small))

    llama = model("llama", intermediate_size=8, num_key_value_heads=1)
    apart = [
        pair_of(1, shared=0, kind="natural", **{side: words(200) + "</think> no" for side in ("chosen", "rejected")})
    ]
    long, short = rows_of([pair_of(1, shared=60)]), rows_of(apart)
    assert [chosen_layout("auto", rows, llama) for rows in (long, short)] == ["shared", "plain"]
    assert [chosen_layout(setting, long, llama) for setting in ("on", "off")] == ["shared", "plain"]
    other = model("gpt_neox", intermediate_size=8)
    assert chosen_layout("auto", long, other) == "plain"
    with pytest.raises(SetupError, match=r"gpt_neox.*set shared_prefix: auto"):
        chosen_layout("on", long, other)
