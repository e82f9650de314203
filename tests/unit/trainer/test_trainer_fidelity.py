"""The train-serve fidelity gate refuses every seeded fault by its own name, and passes what is sound."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.trainer_builders import example_of, job_of, prompt_of, words

from tracemend.kit.errors import SetupError
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate
from tracemend.trainer.fidelity import ModelLimits, objections, require_fidelity
from tracemend.trainer.rendering import IGNORED, fit_length, render_rows
from tracemend.trainer.settings import ObjectionName, TrainSettings
from tracemend.trainer.training import TrainingJob

# What R1 distillations ship: reasoning is cut from assistant turns, and the prompt opens the block.
R1_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'].split('</think>')[-1] + '<|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)
EXAMPLES = [example_of(number) for number in range(6)]
LIMITS = ModelLimits(vocab_size=10_000, context_length=4096)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_models.build_tokenizer()


@pytest.fixture(scope="module")
def r1_tokenizer():
    tokenizer = tiny_models.build_tokenizer()
    tokenizer.chat_template = R1_TEMPLATE
    return tokenizer


def gate(tokenizer, *, examples=EXAMPLES, template=None, limits=LIMITS, change=None, system="", served=None, **options):
    """Names of the objections, with the rows changed by `change` before the gate sees them; they are rendered with the
    prompt `system`, and the model is served with `served`, which is the same if left out."""
    settings = TrainSettings(**options)
    template = template or ChatTemplate.load(tokenizer)
    rows = render_rows(examples, template, tokenizer, settings, system=system)
    rows = [change(row) for row in rows] if change else rows
    served = system if served is None else served
    found = objections(rows, template, settings, limits=limits, num_examples=len(examples), system=served)
    return {objection.name: objection.num_rows for objection in found}


SYSTEM = "let me think first."


class Faulty:
    """The real template with one method spoilt: a fault of the renderer, seen through the port."""

    def __init__(self, real: ChatTemplate, *, response):
        self._real = real
        self._response = response

    def __getattr__(self, name):
        return getattr(self._real, name)

    def response_tokens(self, reasoning, answer):
        return self._response(self._real, reasoning, answer)


def test_sound_rows_pass(tokenizer, r1_tokenizer):
    assert gate(tokenizer) == {}
    assert gate(r1_tokenizer) == {}
    assert gate(tokenizer, max_length="auto") == {}


def test_a_template_that_drops_the_reasoning_is_refused(r1_tokenizer):
    found = gate(r1_tokenizer, render="model_template")
    assert found["reasoning_dropped"] == len(EXAMPLES)


def test_a_renderer_that_drops_the_reasoning_is_refused(tokenizer):
    spoilt = Faulty(
        ChatTemplate.load(tokenizer), response=lambda real, _, answer: real.response_tokens(Text(""), answer)
    )
    assert gate(tokenizer, template=spoilt) == {"reasoning_dropped": 6}


def test_a_length_of_1024_is_refused_where_rows_are_longer(tokenizer):
    long = [*EXAMPLES, example_of(50, reasoning=words(2000))]
    assert gate(tokenizer, examples=long, max_length=1024, limits=ModelLimits(vocab_size=10_000)) == {"too_long": 1}
    assert (
        gate(tokenizer, examples=long, max_length=1024, truncation_share=0.2, limits=ModelLimits(vocab_size=10_000))
        == {}
    )


def test_a_missing_closing_tag_is_refused(tokenizer, r1_tokenizer):
    def without_tag(real, reasoning, answer):
        ids = real.response_tokens(reasoning, answer)
        return tuple(token for token in ids if token != tokenizer.convert_tokens_to_ids("</think>"))

    for each in (tokenizer, r1_tokenizer):
        assert gate(each, template=Faulty(ChatTemplate.load(each), response=without_tag)) == {"closing_tag_missing": 6}


def test_a_response_without_an_end_token_is_refused(tokenizer):
    assert gate(tokenizer, teach_end=False) == {"end_not_taught": 6}


def test_a_loss_on_the_prompt_is_refused(tokenizer):
    assert gate(tokenizer, train_on_prompt=True) == {"prompt_in_loss": 6}


def test_masked_reasoning_is_refused(tokenizer):
    def masked(row):
        at = row.num_prompt_tokens + 3
        return dataclasses.replace(row, labels=(*row.labels[:at], IGNORED, *row.labels[at + 1 :]))

    assert gate(tokenizer, change=masked) == {"reasoning_outside_loss": 6}


def test_a_masked_end_token_is_refused(tokenizer):
    def masked(row):
        return dataclasses.replace(row, labels=(*row.labels[:-1], IGNORED))

    assert "end_not_taught" in gate(tokenizer, change=masked)


def test_plain_text_without_the_served_template_is_refused(tokenizer):
    assert set(gate(tokenizer, render="plain")) == {"prompt_not_served", "end_not_taught"}


def test_rows_with_the_served_system_prompt_pass(tokenizer, r1_tokenizer):
    template = ChatTemplate.load(tokenizer)
    (row,) = render_rows(EXAMPLES[:1], template, tokenizer, TrainSettings(), system=SYSTEM)
    asked = EXAMPLES[0].prompt.text
    assert row.input_ids[: row.num_prompt_tokens] == template.prompt_tokens(asked, system=SYSTEM)
    assert row.num_prompt_tokens > len(template.prompt_tokens(asked))
    assert gate(tokenizer, system=SYSTEM) == gate(r1_tokenizer, system=SYSTEM) == {}
    assert gate(tokenizer, system=SYSTEM, render="model_template") == gate(tokenizer, render="model_template")


@pytest.mark.parametrize(("trained", "served"), [("", SYSTEM), (SYSTEM, ""), (SYSTEM, "yes.")])
def test_another_system_prompt_than_the_served_one_is_refused(tokenizer, trained, served):
    assert gate(tokenizer, system=trained, served=served) == {"prompt_not_served": 6}


def test_a_job_carries_the_system_prompt_to_wherever_it_runs(tmp_path):
    job = dataclasses.replace(job_of(tmp_path, base=tmp_path / "base", examples=EXAMPLES), system=SYSTEM)
    assert TrainingJob.from_arguments(json.loads(json.dumps(job.arguments)), folder=job.folder) == job


def test_words_that_the_tokenizer_does_not_know_are_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<unk>", "<|end|>", "<think>", "</think>", "<|user|>", "<|assistant|>", *words(40).split(), "bread"]
    core = Tokenizer(models.WordLevel({word: at for at, word in enumerate(dict.fromkeys(known))}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(["<unk>", "<|end|>", "<|user|>", "<|assistant|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", eos_token="<|end|>", chat_template=tiny_models.TEMPLATE
    )
    odd = [example_of(1), example_of(2, answer="marmalade")]
    assert gate(tokenizer, examples=odd) == {"parser_disagrees": 1}


def test_a_tag_that_text_alone_cannot_hold_is_refused_and_may_be_left_out():
    """Where the tags are no tokens of their own, a closing tag inside the reasoning would end it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(sorted(alphabet))}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", chat_template=tiny_models.TEMPLATE + "{# <think></think> #}"
    )
    odd = [*EXAMPLES, example_of(9, reasoning="first </think> then")]
    assert gate(tokenizer, examples=odd) == {"not_renderable": 1}
    settings = TrainSettings(overrides=("not_renderable",))
    template = ChatTemplate.load(tokenizer)
    rows = render_rows(odd, template, tokenizer, settings)
    assert len(rows) == 6
    assert require_fidelity(rows, template, settings, limits=LIMITS, num_examples=7)[0].num_rows == 1


def test_a_tag_inside_the_reasoning_stays_words_where_tags_are_tokens(tokenizer):
    assert gate(tokenizer, examples=[example_of(9, reasoning="first </think> then")]) == {}


def test_control_tokens_spelt_in_a_prompt_do_no_harm(tokenizer):
    prompt = dataclasses.replace(prompt_of(1), text=Text("hello <|end|><|assistant|> </think> there"))
    assert gate(tokenizer, examples=[example_of(1, prompt=prompt)]) == {}


def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    assert gate(tokenizer, limits=ModelLimits(vocab_size=300))["unknown_tokens"] > 0


def test_rows_beyond_the_context_are_refused(tokenizer):
    assert gate(tokenizer, limits=ModelLimits(vocab_size=10_000, context_length=20))["beyond_context"] > 0


def test_all_objections_are_raised_together_with_their_remedies(tokenizer):
    settings = TrainSettings(teach_end=False, train_on_prompt=True, max_length=10)
    template = ChatTemplate.load(tokenizer)
    rows = render_rows(EXAMPLES, template, tokenizer, settings)
    with pytest.raises(SetupError) as raised:
        require_fidelity(rows, template, settings, limits=LIMITS, num_examples=6)
    message = str(raised.value)
    assert all(
        part in message
        for part in ("end_not_taught", "set teach_end: true", "prompt_in_loss", "too_long", "max_length: auto")
    )
    assert not any(example.prompt.text.reveal() in message for example in EXAMPLES)


def test_an_override_accepts_its_own_objection_and_no_other(tokenizer):
    template = ChatTemplate.load(tokenizer)
    settings = TrainSettings(teach_end=False, train_on_prompt=True, overrides=("end_not_taught",))
    rows = render_rows(EXAMPLES, template, tokenizer, settings)
    with pytest.raises(SetupError, match="prompt_in_loss") as raised:
        require_fidelity(rows, template, settings, limits=LIMITS, num_examples=6)
    assert "end_not_taught" not in str(raised.value)


def test_an_unknown_override_is_refused():
    with pytest.raises(ValueError, match="overrides"):
        TrainSettings(overrides=("end_not_tought",))


def test_every_objection_is_seeded_in_this_file():
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in get_args(ObjectionName) if f'"{name}"' not in source] == []


def test_longer_rows_are_left_out_or_cut_as_the_settings_say(tokenizer):
    template = ChatTemplate.load(tokenizer)
    examples = [*EXAMPLES, example_of(50, reasoning=words(300))]
    rows = render_rows(examples, template, tokenizer, TrainSettings())
    left, num_longer = fit_length(rows, TrainSettings(max_length=200))
    assert (left, num_longer) == (rows[:6], 1)
    cut, _ = fit_length(rows, TrainSettings(max_length=200, truncation="keep_start"))
    assert (cut[:6], len(cut[6].input_ids), cut[6].input_ids) == (rows[:6], 200, rows[6].input_ids[:200])
    only_prompt, _ = fit_length(rows[:1], TrainSettings(max_length=3, truncation="keep_start"))
    assert only_prompt == []
