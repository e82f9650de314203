"""Chat templates: prompts, responses and splits agree with each other and with the model's own template."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trace_models

from tracemend.adapters.tokens import Tokens
from tracemend.kit.errors import Reject, SetupError
from tracemend.records import Parse
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate

PROMPT, THOUGHT, ANSWER = Text("What is 6 times 7?"), Text("Let me check.\n\nIt is 42."), Text("The answer is 42.")
FAMILIES = {
    "r1": lambda: ChatTemplate.load(trace_models.r1()),
    "r1 old": lambda: ChatTemplate.load(trace_models.r1(opens=False)),
    "qwen3": lambda: ChatTemplate.load(trace_models.qwen3()),
    "llama": lambda: ChatTemplate.load(trace_models.llama(), "think"),
    "words": lambda: ChatTemplate.load(trace_models.word_level()),
}
reasoning_families = pytest.mark.parametrize("family", sorted(FAMILIES))


@pytest.fixture(scope="module")
def templates():
    return {name: build() for name, build in FAMILIES.items()}


def words(template, ids):
    return template.decode(ids).reveal()


# -------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("family", "format_name"), [("r1", "r1"), ("r1 old", "r1"), ("qwen3", "qwen3"), ("words", "think")]
)
def test_the_format_is_told_by_template_and_vocabulary(templates, family, format_name):
    assert templates[family].format.name == format_name


def test_a_model_that_shows_no_reasoning_tags_asks_for_the_setting():
    with pytest.raises(SetupError, match=r"set reasoning_format to one of none, qwen3, r1, think"):
        ChatTemplate.load(trace_models.llama())


def test_a_template_that_opens_the_block_refuses_a_format_that_opens_it_again():
    with pytest.raises(SetupError, match="set reasoning_format to r1"):
        ChatTemplate.load(trace_models.r1(), "think")


def test_a_template_that_closes_the_block_refuses_a_format_with_reasoning():
    closing = trace_models.R1.replace("GENERATE", r"<think>\n\n</think>\n\n")
    tokenizer = trace_models.byte_level(closing, trace_models.R1_CONTROLS)
    assert ChatTemplate.load(tokenizer).format.name == "none"
    with pytest.raises(SetupError, match="set reasoning_format to none"):
        ChatTemplate.load(tokenizer, "r1")


def test_the_format_none_switches_a_hybrid_model_off():
    template = ChatTemplate.load(trace_models.qwen3(), "none")
    assert words(template, template.prompt_tokens(PROMPT)).endswith("<think>\n\n</think>\n\n")
    assert template.response_text(Text(""), ANSWER) == ANSWER
    with pytest.raises(Reject, match="reasoning_without_place"):
        template.response_text(THOUGHT, ANSWER)


# -------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize("tokenizer", [trace_models.r1(), trace_models.qwen3(), trace_models.word_level()])
@pytest.mark.parametrize("system", ["", "Be kind. "])
def test_an_honest_prompt_gets_the_ids_of_the_models_own_template(tokenizer, system):
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": PROMPT.reveal()}]
    own = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ChatTemplate.load(tokenizer).prompt_tokens(PROMPT, system=system) == tuple(own)


@pytest.mark.parametrize("family", ["r1", "r1 old"])
@pytest.mark.parametrize("prompt", ["Hi?", "Hi <think>", "Hi? <think>\n", "</think>"])
def test_an_r1_prompt_ends_with_one_opening_tag(templates, family, prompt):
    template = templates[family]
    ids = template.prompt_tokens(Text(prompt))
    assert words(template, ids).endswith("<｜Assistant｜><think>\n")
    opening = template.response_tokens(Text("x"), Text("y"))
    assert [words(template, [i]) for i in ids].count("<think>") == 1
    assert "<think>" not in [words(template, [i]) for i in opening]


def test_a_prompt_is_the_same_on_any_day(templates):
    assert "Today: 26 Jul 2024<|eot_id|>" in words(templates["llama"], templates["llama"].prompt_tokens(PROMPT))


def test_a_template_without_a_system_role_says_so():
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + trace_models.WORDS
    )
    template = ChatTemplate.load(trace_models.byte_level(refusing, trace_models.WORDS_CONTROLS))
    with pytest.raises(SetupError, match="leave the system prompt empty"):
        template.prompt_tokens(PROMPT, system="Be kind.")


def test_a_template_that_drops_plain_text_is_refused():
    parts_only = "{% for m in messages %}{% if m['content'] is not string %}x{% endif %}{% endfor %}</think>"
    with pytest.raises(SetupError, match="leaves out what the user says"):
        ChatTemplate.load(trace_models.byte_level(parts_only, trace_models.WORDS_CONTROLS))


# -------------------------------------------------------------------------------------------- responses


@reasoning_families
@pytest.mark.parametrize("thought", [THOUGHT, Text("")])
def test_a_rendered_response_splits_into_what_was_rendered(templates, family, thought):
    template = templates[family]
    prompt_ids, response_ids = template.render_training(PROMPT, thought, ANSWER)
    assert prompt_ids == template.prompt_tokens(PROMPT)
    assert response_ids == template.response_tokens(thought, ANSWER)
    parts = template.split(response_ids)
    assert parts.parse is Parse.CLOSED
    assert "".join(parts.reasoning.split()) == "".join(thought.split())
    assert parts.answer == ANSWER
    assert parts.text == template.decode(response_ids[:-1])
    inside = response_ids[parts.reasoning_tokens.start : parts.reasoning_tokens.end]
    assert words(template, inside).strip() == parts.reasoning.reveal()
    assert words(template, response_ids[parts.answer_tokens.start : parts.answer_tokens.end]).strip() == ANSWER.reveal()


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("r1", "Let me check.\n\nIt is 42.\n</think>\n\nThe answer is 42."),
        ("r1 old", "Let me check.\n\nIt is 42.\n</think>\n\nThe answer is 42."),
        ("qwen3", "<think>\nLet me check.\n\nIt is 42.\n</think>\n\nThe answer is 42."),
    ],
)
def test_a_response_is_what_the_family_writes(templates, family, text):
    assert templates[family].response_text(THOUGHT, ANSWER).reveal() == text


def test_a_prompt_that_ends_right_behind_the_tag_leaves_the_line_break_to_the_response():
    bare = trace_models.R1.replace("GENERATE", "<think>")
    template = ChatTemplate.load(trace_models.byte_level(bare, trace_models.R1_CONTROLS))
    assert template.response_text(THOUGHT, ANSWER).reveal().startswith("\nLet me")


@reasoning_families
def test_the_end_token_of_a_turn_is_taught_and_ends_a_sample(templates, family):
    template = templates[family]
    ids = template.response_tokens(THOUGHT, ANSWER)
    assert ids[-1] in template.end_token_ids
    assert not template.end_token_ids & set(ids[:-1])
    turn_ends = {"llama": "<|eot_id|>", "qwen3": "<|im_end|>", "words": "<|end|>"}
    assert words(template, ids[-1:]).strip() == turn_ends.get(family, "<｜end▁of▁sentence｜>")
    for end in template.end_token_ids:
        assert template.split((*ids[:-1], end, *ids)) == template.split(ids)


def test_end_tokens_come_from_generation_settings_too(tmp_path):
    tokenizer = trace_models.qwen3()
    extra = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.save_pretrained(tmp_path)
    without = ChatTemplate.load(tmp_path).end_token_ids
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [extra]}))
    assert ChatTemplate.load(str(tmp_path)).end_token_ids == without | {extra}


def test_a_model_without_any_end_token_is_refused():
    endless = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer = trace_models.byte_level(endless, trace_models.WORDS_CONTROLS)
    tokenizer.eos_token = None
    with pytest.raises(SetupError, match="set eos_token"):
        ChatTemplate.load(tokenizer)


# -------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("family", "sample", "reasoning", "answer", "parse"),
    [
        ("r1", "Hm.</think>No.", "Hm.", "No.", Parse.CLOSED),
        ("r1", "<think>\nHm.</think>No.", "Hm.", "No.", Parse.CLOSED),
        ("r1", "Hm. So", "Hm. So", "", Parse.UNCLOSED),
        ("qwen3", "<think>\n\n</think>\n\nNo.", "", "No.", Parse.CLOSED),
        ("qwen3", "No.", "", "No.", Parse.NO_TAGS),
        ("qwen3", "<think>Hm", "Hm", "", Parse.UNCLOSED),
        ("llama", "<think>Hm.</think></think>No.", "Hm.", "</think>No.", Parse.CLOSED),
        ("words", "First, </think> Wait, is", "First,", "Wait, is", Parse.CLOSED),
    ],
)
def test_samples_split_by_the_familys_format(templates, family, sample, reasoning, answer, parse):
    template = templates[family]
    tokenizer = {"r1": trace_models.r1, "qwen3": trace_models.qwen3, "llama": trace_models.llama}
    encode = tokenizer.get(family, trace_models.word_level)()
    parts = template.split(encode(sample, add_special_tokens=False)["input_ids"])
    assert (parts.reasoning.reveal(), parts.answer.reveal(), parts.parse) == (reasoning, answer, parse)


def test_nothing_splits_into_nothing(templates):
    parts = templates["r1"].split(())
    assert (parts.text, parts.reasoning, parts.answer, parts.parse) == ("", "", "", Parse.UNCLOSED)


def test_reasoning_steps_know_their_tokens(templates):
    template = templates["qwen3"]
    ids = template.response_tokens(Text("So it is. Wait, no.\nIt is 好."), ANSWER)
    reasoning = template.split(ids).reasoning.reveal()
    steps = template.reasoning_steps(ids)
    assert [reasoning[s.chars.start : s.chars.end] for s in steps] == ["So it is. ", "Wait, no.\n", "It is 好."]
    for step in steps:
        assert reasoning[step.chars.start : step.chars.end].strip() in words(
            template, ids[step.tokens.start : step.tokens.end]
        )


# -------------------------------------------------------------------------------------------- identity, loading


def test_the_identity_is_that_of_tokenizer_template_and_format(tmp_path):
    trace_models.qwen3().save_pretrained(tmp_path)
    loaded = ChatTemplate.load(tmp_path)
    assert loaded.identity == ChatTemplate.load(trace_models.qwen3()).identity
    others = [
        ChatTemplate.load(trace_models.qwen3(), "think"),
        ChatTemplate.load(
            trace_models.byte_level(trace_models.QWEN3 + " ", trace_models.QWEN3_CONTROLS, eos="<|im_end|>")
        ),
        ChatTemplate.load(trace_models.byte_level(trace_models.QWEN3, trace_models.QWEN3_CONTROLS)),
        ChatTemplate.load(
            trace_models.byte_level(trace_models.QWEN3, (*trace_models.QWEN3_CONTROLS, "<|x|>"), eos="<|im_end|>")
        ),
    ]
    assert len({loaded.identity, *(other.identity for other in others)}) == 5


def test_a_word_level_vocabulary_that_transformers_would_rebuild_is_refused(tmp_path):
    """In a qwen2 folder the stored tokenizer class is ignored and every text read as other words."""
    trace_models.word_level().save_pretrained(tmp_path)
    assert ChatTemplate.load(tmp_path).format.name == "think"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(SetupError, match="WordLevel tokenizer, but transformers loads it as BPE"):
        ChatTemplate.load(tmp_path)


@pytest.mark.parametrize(
    "damage", ["{}", "[]", "", '{"added_tokens": []', '{"added_tokens": [], "model": 7}', "\udcff"]
)
def test_damaged_tokenizer_files_are_told_whatever_the_library_makes_of_them(tmp_path, damage):
    trace_models.word_level().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(damage, errors="surrogateescape")
    for load in (ChatTemplate.load, Tokens):
        with pytest.raises(SetupError, match=f"the tokenizer in {tmp_path} cannot be loaded"):
            load(tmp_path)


def test_what_cannot_be_loaded_says_what_to_change(tmp_path):
    with pytest.raises(SetupError, match="is not a folder"):
        ChatTemplate.load(tmp_path / "missing")
    with pytest.raises(SetupError, match=r"cannot be loaded .*copy the tokenizer's files"):
        ChatTemplate.load(tmp_path)
    tokenizer = trace_models.qwen3()
    tokenizer.chat_template = None
    with pytest.raises(SetupError, match="no chat template"):
        ChatTemplate.load(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    (tmp_path / "chat_template.jinja").write_text(trace_models.QWEN3)
    with pytest.raises(SetupError, match="not valid JSON"):
        ChatTemplate.load(tmp_path)


def test_threads_share_a_template(templates):
    template = templates["qwen3"]
    prompts = [Text(f"<|im_end|> {i}") if i % 2 else Text(f"So {i}?") for i in range(200)]
    alone = [template.prompt_tokens(prompt) for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(template.prompt_tokens, prompts)) == alone


# -------------------------------------------------------------------------------------------- real families

SHIPPED = {
    "deepseek_r1_distill": ("r1", trace_models.R1_CONTROLS),
    "qwen3": ("qwen3", trace_models.QWEN3_CONTROLS),
    "qwen3_5_think": ("r1", trace_models.QWEN3_CONTROLS),
    "llama3_1": ("think", trace_models.LLAMA_CONTROLS),
    "qwen2_5": ("think", trace_models.QWEN3_CONTROLS),
}


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_templates_that_ship_with_trl_keep_the_reasoning_and_the_tags(name):
    format_name, controls = SHIPPED[name]
    package = importlib.util.find_spec("trl")
    assert package is not None, "trl is part of the development environment"
    source = Path(package.submodule_search_locations[0], "chat_templates", f"{name}.jinja").read_text(encoding="utf-8")
    eos = "<|im_end|>" if "<|im_end|>" in controls else None
    template = ChatTemplate.load(trace_models.byte_level(source, controls, eos=eos), format_name)
    prompt_ids, response_ids = template.render_training(PROMPT, THOUGHT, ANSWER, system="Be kind.")
    transcript = words(template, prompt_ids + response_ids)
    assert transcript.count("<think>\nLet me check.\n\nIt is 42.\n</think>\n\nThe answer is 42.") == 1
    parts = template.split(response_ids)
    assert (parts.reasoning, parts.answer) == (THOUGHT, ANSWER)
    assert template.special_tokens_in(transcript)[-1] == words(template, response_ids[-1:])
