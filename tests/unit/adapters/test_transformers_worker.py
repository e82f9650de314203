"""The batch behind the transformers engine: small budgets, refills and hostile words change no token."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tiny_models

from tracemend.adapters.tokens import Tokens
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish, Sampling
from tracemend.runtime.models import open_model

WARM = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=40, repetition_penalty=1.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model") / "llama", "llama")


def requests(count: int = 40) -> list[ModelRequest]:
    return [
        ModelRequest(
            prompt_tokens=tuple(range(20, 25 + 3 * (i % 9))),
            sampling=replace(WARM, max_new_tokens=1 + 7 * (i % 6), temperature=float(i % 3)),
            seed=i,
            num_logprobs=i % 2,
        )
        for i in range(count)
    ]


async def complete(folder: Path, asked: list[ModelRequest], **options: Any) -> list[Completion]:
    model = open_model(f"transformers:{folder}", options={"num_threads": 1} | options)
    try:
        return list(await asyncio.gather(*map(model.complete, asked)))
    finally:
        await model.aclose()


async def test_batch_size_and_memory_budget_change_no_token(folder: Path) -> None:
    """A budget of 300 columns sends rows back to the line in mid-response; they go on where they were."""
    whole = await complete(folder, requests(), max_batch=64)
    for options in ({"max_batch": 1}, {"max_batch": 7}, {"max_batch": 64, "max_tokens": 300}):
        again = await complete(folder, requests(), **options)
        assert [c.token_ids for c in again] == [c.token_ids for c in whole]
        assert [c.finish for c in again] == [c.finish for c in whole]
        for one, other in zip(again, whole, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


async def test_engine_time_is_shared_and_adds_up(folder: Path) -> None:
    model = open_model(f"transformers:{folder}", options={"num_threads": 1})
    await model.complete(requests(1)[0])
    loop = asyncio.get_running_loop()
    started = loop.time()
    done = await asyncio.gather(*map(model.complete, requests()))
    elapsed = loop.time() - started
    await model.aclose()
    assert all(c.seconds > 0 for c in done)
    assert sum(c.seconds for c in done) <= elapsed * 1.01


async def test_a_continuation_draws_the_tail_of_the_whole_even_warm(folder: Path) -> None:
    """Noise is by absolute position, so the same seed goes on as it began."""
    asked = ModelRequest(prompt_tokens=(30, 31, 32), sampling=replace(WARM, repetition_penalty=1.0), seed=5)
    (whole,) = await complete(folder, [asked])
    head = whole.token_ids[:9]
    forked = replace(
        asked, prompt_tokens=asked.prompt_tokens + head, sampling=replace(asked.sampling, max_new_tokens=31)
    )
    assert (await complete(folder, [forked]))[0].token_ids == whole.token_ids[9:]


@pytest.mark.parametrize("max_batch", [3, 64])
async def test_forks_draw_the_same_tokens_whether_or_not_their_beginnings_are_kept(
    folder: Path, max_batch: int
) -> None:
    """Rows end at different times, stay for some steps and are read from then on: whatever is kept is what was
    written."""
    kept, fresh = [await fork(folder, max_batch=max_batch, kept_mb=mb) for mb in (8, 0)]
    assert [c.token_ids for c in kept] == [c.token_ids for c in fresh]
    for one, other in zip(kept, fresh, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert sum(c.num_cached_tokens for c in kept) > 0.7 * sum(c.num_prompt_tokens for c in kept)
    assert all(c.num_cached_tokens <= c.num_prompt_tokens for c in kept)


async def fork(folder: Path, **options: Any) -> list[Completion]:
    """Forks of `requests`, each from two places with tokens of its own behind the cut, and forks of those."""
    model = open_model(f"transformers:{folder}", options={"num_threads": 1} | options)
    asked, done = requests(), list[Completion]()
    for round_ in range(3):
        done += (written := list(await asyncio.gather(*map(model.complete, asked))))
        asked = [
            replace(request, prompt_tokens=(*request.prompt_tokens, *one.token_ids[:cut], 30 + round_), seed=cut)
            for request, one in zip(asked, written, strict=True)
            for cut in ({len(one.token_ids) // 2, len(one.token_ids)} if len(done) < 100 else {3})
        ]
    await model.aclose()
    return done[40:]


async def test_requests_that_come_together_with_one_prompt_read_it_once(folder: Path) -> None:
    prompt = tuple(range(20, 60))
    asked = [ModelRequest(prompt_tokens=prompt, sampling=WARM, seed=seed) for seed in range(6)]
    done = await complete(folder, asked, kept_mb=0)
    assert sorted(c.num_cached_tokens for c in done) == [0] + [len(prompt)] * 5


async def test_the_end_token_stops_a_row_and_stays_in_its_ids_but_not_in_its_text(folder: Path) -> None:
    hot = [replace(r, sampling=Sampling(temperature=3.0, top_p=1.0, max_new_tokens=200)) for r in requests(60)]
    ended = [c for c in await complete(folder, hot) if c.finish is Finish.STOP]
    end = Tokens(folder).end_ids
    assert ended
    assert all(c.token_ids[-1] in end and not end & set(c.token_ids[:-1]) for c in ended)
    assert all(tiny_models.END not in c.text.reveal() for c in ended)


async def test_sliding_window_attention_equals_transformers_own(tmp_path: Path) -> None:
    """Models whose layers see a window get the library's own masks."""
    import torch
    from transformers import AutoModelForCausalLM, MistralConfig

    tiny_models.build(tmp_path, "llama")
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=len(tiny_models.build_tokenizer()), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, sliding_window=8,
        initializer_range=0.3, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).float().eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text("{}")
    prompts = [tuple(range(20, 24 + 7 * i)) for i in range(5)]
    prompts += [(*prompts[4][:20], *range(90, 96)), (*prompts[4], 99)]  # these begin as one that was written
    asked = [ModelRequest(prompt_tokens=p, sampling=Sampling(temperature=0.0, max_new_tokens=20)) for p in prompts]
    done = await complete(tmp_path, asked, max_batch=5)
    num_read = len(prompts[5]) - 20  # as many for the other one, which is read beside it
    assert [c.num_cached_tokens for c in done[5:]] == [20, len(prompts[6]) - num_read]
    for prompt, completion in zip(prompts, done, strict=True):
        ids = list(prompt)
        for _ in range(completion.num_new_tokens):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert tuple(ids[len(prompt) :]) == completion.token_ids


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=0),
        Sampling(temperature=float("nan")),
        Sampling(temperature=-1.0),
        Sampling(top_p=0.0),
        Sampling(top_k=-1),
        Sampling(repetition_penalty=0.0),
    ],
)
async def test_impossible_settings_are_the_callers_error(folder: Path, sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="not "):
        await complete(folder, [ModelRequest(prompt_tokens=(1, 2), sampling=sampling)])


@pytest.mark.parametrize(
    ("hostile", "error"),
    [
        (ModelRequest(messages=({"role": "user", "content": "half \ud800"},)), Reject),
        (ModelRequest(messages=({"role": "user", "content": "".join(map(chr, range(0xE000, 0xF900)))},)), Reject),
        (ModelRequest(messages=({"role": "user", "content": "hi"},), stop=("\udfff",)), ValueError),
        (ModelRequest(prompt_tokens=(1, "two")), TypeError),  # type: ignore[arg-type]  # what no caller may do
    ],
    ids=["half-surrogate", "every-private-character", "stop-is-no-text", "no-ids"],
)
async def test_a_request_that_cannot_be_read_leaves_the_engine_to_the_others(
    folder: Path, hostile: ModelRequest, error: type[Exception]
) -> None:
    model = open_model(f"transformers:{folder}", options={"num_threads": 1})
    ended = await asyncio.gather(*map(model.complete, [*requests(3), hostile, *requests(3)]), return_exceptions=True)
    assert [type(each) for each in ended] == [Completion] * 3 + [error] + [Completion] * 3
    await model.aclose()


async def test_a_model_that_was_copied_in_part_is_named(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SetupError, match=f"the model in {copied} cannot be loaded"):
        open_model(f"transformers:{copied}")


async def test_options_that_cannot_be_say_what_to_change(folder: Path) -> None:
    for options, words in (
        ({"dtype": "float17"}, "choose auto"),
        ({"max_model_len": 10_000}, "256 positions"),
        ({"device": "cuda:99"}, "device"),
    ):
        with pytest.raises(SetupError, match=words):
            open_model(f"transformers:{folder}", options=options)


# tokens -----------------------------------------------------------------------------------------------


def test_control_tokens_in_a_message_stay_words(folder: Path) -> None:
    tokens = Tokens(folder)
    controls = set(tiny_models.build_tokenizer().get_added_vocab().values())
    clean = tokens.render([{"role": "user", "content": "hello"}])
    for word in (tiny_models.END, tiny_models.ASSISTANT, tiny_models.SYSTEM, "</think>"):
        hostile = f"a{word}b {word}{word} c"
        ids = tokens.render([{"role": "user", "content": hostile}])
        assert [i for i in ids if i in controls] == [i for i in clean if i in controls]
        assert hostile in tiny_models.build_tokenizer().decode(ids, skip_special_tokens=True)


def test_an_assistants_turn_may_hold_reasoning_tags_but_no_other_control_token(folder: Path) -> None:
    tokens = Tokens(folder)
    vocab = tiny_models.build_tokenizer().get_added_vocab()
    said = f"<think>hm</think>yes{tiny_models.END}"
    ids = tokens.render([{"role": "user", "content": "q"}, {"role": "assistant", "content": said}])
    assert ids.count(vocab["</think>"]) == 1
    assert ids.count(vocab[tiny_models.END]) == 2  # one per turn, by the template


def test_without_hostile_words_prompt_ids_are_the_tokenizers_own(folder: Path) -> None:
    from transformers import AutoTokenizer

    messages = [{"role": "user", "content": "how do I make bread? wait.\n\n42"}]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert list(Tokens(folder).render(messages)) == theirs


def test_a_tokenizer_without_a_template_takes_token_ids_only(tmp_path: Path, folder: Path) -> None:
    tokenizer = tiny_models.build_tokenizer()
    tokenizer.chat_template = None
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(Reject, match="no_chat_template"):
        Tokens(tmp_path).render([{"role": "user", "content": "hello"}])
