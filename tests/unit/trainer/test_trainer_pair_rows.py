"""Where a pair's loss is taken, and what the gate for pairs refuses."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import get_args

import pytest
from tests.unit.trainer.pair_builders import TEMPLATE, ids, pair_of, rows_of

from tracemend.kit.errors import SetupError
from tracemend.records import Parse
from tracemend.redaction import Text
from tracemend.trainer.fidelity import ModelLimits
from tracemend.trainer.pair_fidelity import pair_objections, require_pair_fidelity
from tracemend.trainer.pair_rows import PairSpans, span_end
from tracemend.trainer.settings import PairObjectionName, TrainSettings

PAIRS = [pair_of(number) for number in range(6)]
LIMITS = ModelLimits(vocab_size=10_000, context_length=4096)


def gate(pairs, *, limits=LIMITS, spans=None, **settings) -> dict[str, int]:
    spans = spans or PairSpans()
    rows = rows_of(pairs, **dataclasses.asdict(spans))
    found = pair_objections(rows, TEMPLATE, TrainSettings(**settings), limits=limits, spans=spans)
    return {objection.name: objection.num_rows for objection in found}


def with_chosen(pair, tokens):
    return dataclasses.replace(pair, chosen_tokens=tokens, chosen=TEMPLATE.decode(tokens))


def test_a_span_of_the_reasoning_ends_with_its_closing_tag():
    row = rows_of(PAIRS)[0]
    close = ids("</think>")[0]
    assert row.chosen_ids[row.chosen_end - 1] == row.rejected_ids[row.rejected_end - 1] == close
    assert TEMPLATE.split(row.chosen_ids[: row.chosen_end]).parse is Parse.CLOSED


def test_a_closing_tag_of_several_tokens_is_whole_in_the_span():
    """Where tags are ordinary words, the span ends with the last token that the tag has a character in."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tracemend.traces.template import ChatTemplate

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>"])
    chat = "{% for m in messages %}{{ m['content'] }}{% endfor %}{# <think></think><|end|> #}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", chat_template=chat)
    template = ChatTemplate.load(tokenizer, "think")
    for before, after in itertools.product(range(4), range(4)):
        text = "<think>\nok" + "\n" * before + "</think>" + "\n" * after + "yes<|end|>"
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        end = span_end(tokens, template, "reasoning")
        assert template.decode(tokens[:end]).reveal() == text[: text.index("</think>") + len("</think>")]


def test_a_span_of_the_response_ends_with_the_end_token():
    row = rows_of(PAIRS, reach="response")[0]
    assert row.chosen_end == len(row.chosen_ids)
    assert {row.chosen_ids[-1], row.rejected_ids[-1]} <= TEMPLATE.end_token_ids


def test_what_follows_the_end_token_is_no_part_of_a_side():
    longer = with_chosen(PAIRS[0], (*PAIRS[0].chosen_tokens, 5, 6))
    assert rows_of([longer])[0].chosen_ids == PAIRS[0].chosen_tokens


def test_the_preference_begins_at_the_cut_or_at_the_response():
    (cut,), (whole,) = rows_of(PAIRS[:1]), rows_of(PAIRS[:1], start="response", reach="response", nll="response")
    assert (cut.prefix, cut.nll_start, cut.nll_end) == (PAIRS[0].prefix_tokens, cut.prefix, cut.chosen_end)
    assert (whole.prefix, whole.nll_start, whole.nll_end) == (0, 0, len(whole.chosen_ids))


def test_the_likelihood_covers_the_span_or_the_whole_response():
    (row,) = rows_of(PAIRS[:1], nll="response")
    assert (row.prefix, row.nll_start, row.nll_end) == (PAIRS[0].prefix_tokens, 0, len(row.chosen_ids))


def test_benign_pairs_reach_the_answer_whatever_the_others_do():
    benign = pair_of(1, kind="benign", shared=0)
    row, harmful = rows_of([benign, PAIRS[0]])
    assert row.chosen_end == len(row.chosen_ids)
    assert harmful.chosen_end < len(harmful.chosen_ids)


# ------------------------------------------------------------------------------------------ the gate


def test_sound_pairs_pass():
    natural = pair_of(7, kind="natural", shared=0)
    assert gate([*PAIRS, natural]) == {}
    assert gate([*PAIRS, natural], spans=PairSpans(reach="response"), max_length="auto") == {}


@pytest.mark.parametrize(("sampled", "served"), [("", "think first."), ("think first.", ""), ("think first.", "yes.")])
def test_pairs_that_were_made_under_another_system_prompt_are_refused(sampled, served):
    rows = rows_of(PAIRS, system=sampled)
    for system, expected in ((sampled, {}), (served, {"prompt_not_served": 6})):
        found = pair_objections(rows, TEMPLATE, TrainSettings(), limits=LIMITS, spans=PairSpans(), system=system)
        assert {objection.name: objection.num_rows for objection in found} == expected


def test_a_prefix_that_differs_is_refused():
    other = dataclasses.replace(PAIRS[1], prefix_tokens=PAIRS[1].prefix_tokens + 3)
    assert gate([PAIRS[0], other])["prefix_differs"] == 1


def test_ids_of_another_tokenizer_are_refused():
    assert gate([dataclasses.replace(PAIRS[0], rejected=Text("other words"))]) == {"text_differs": 1}


def test_sides_that_are_equal_where_the_loss_looks_are_refused():
    same = pair_of(3, chosen=" yes.\n</think>\n\nno", rejected=" yes.\n</think>\n\nyes")
    assert gate([same]) == {"nothing_to_prefer": 1}
    assert gate([same], spans=PairSpans(reach="response")) == {}


def test_a_cut_behind_the_reasoning_is_refused():
    pair = PAIRS[0]
    whole = pair_of(0, shared=12, chosen="\n</think>\n\nyes", rejected="\n</think>\n\nno")
    behind = dataclasses.replace(whole, prefix_tokens=pair.prefix_tokens + 4)
    assert "nothing_to_prefer" in gate([behind])


def test_reasoning_that_never_closes_is_refused_for_the_reasoning_span():
    open_end = pair_of(3, rejected=" yes. " + "and so on " * 5)
    assert gate([*PAIRS, open_end]) == {"span_not_closed": 1}
    assert gate([*PAIRS, open_end], spans=PairSpans(reach="response")) == {}


def test_a_side_without_an_end_token_is_refused_for_the_response_span():
    cut_off = with_chosen(PAIRS[0], PAIRS[0].chosen_tokens[:-1])
    assert gate([cut_off], spans=PairSpans(reach="response")) == {"span_without_end": 1}
    assert gate([cut_off]) == {}


def test_pairs_longer_than_the_length_are_refused_and_never_cut():
    assert gate(PAIRS, max_length=20) == {"pair_too_long": 6}
    assert gate(PAIRS, max_length=20, truncation_share=1.0) == {}


def test_pairs_beyond_the_context_are_refused():
    assert gate(PAIRS, limits=ModelLimits(vocab_size=10_000, context_length=20)) == {"pair_beyond_context": 6}


def test_ids_outside_the_vocabulary_are_refused():
    assert gate(PAIRS, limits=ModelLimits(vocab_size=100)) == {"pair_unknown_tokens": 6}


def test_objections_name_their_remedies_and_are_overridden_by_name():
    rows, settings = rows_of(PAIRS), TrainSettings(max_length=20)
    with pytest.raises(SetupError, match=r"pair_too_long \(6 of 6 rows\).*max_length: auto"):
        require_pair_fidelity(rows, TEMPLATE, settings, limits=LIMITS, spans=PairSpans())
    overridden = TrainSettings(max_length=20, overrides=("pair_too_long",))
    found = require_pair_fidelity(rows, TEMPLATE, overridden, limits=LIMITS, spans=PairSpans())
    assert [objection.name for objection in found] == ["pair_too_long"]


def test_every_objection_to_pairs_is_seeded_in_this_file():
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in get_args(PairObjectionName) if f'"{name}"' not in source] == []
