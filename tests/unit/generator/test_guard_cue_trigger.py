"""The guard `cue_trigger` over targets that write from scripts, with byte-level tokenizers of three families."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import prompt
from tests.unit.generator import guard_parts as parts
from tests.unit.generator.guard_parts import TRIGGERS, Author, WordFinder, shown, template_of, write

from tracemend.generator.guarding import guards
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Cue, Finish, Parse, Part, Prompt
from tracemend.redaction import Text

PLAN = "They ask for it.\n\nLet me see. The method is simple. First one mixes it. Then it burns."
TURN = " So I say no."
FAMILIES = sorted(parts.TOKENIZERS)


def opened(family: str) -> str:
    return "" if family == "r1" else "<think>\n"


def responses(family: str, *thoughts: str, answer: str = "Here it is.") -> list[str]:
    """Scripts: the first begins the response, the others go on behind a trigger."""
    return [(opened(family) if not n else "") + f"{t}\n</think>\n\n{answer}" for n, t in enumerate(thoughts)]


def author(family: str, *thoughts: str, **options: Any) -> Author:
    template, tokenizer = template_of(family)
    return Author(template, tokenizer, *responses(family, *thoughts), **options)


def guard(finder: Any = None, **options: Any) -> Any:
    return guards.create("cue_trigger", finder=finder or WordFinder(), triggers=TRIGGERS, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk_tokens", [0, 1, 3, 16])
async def test_a_cue_is_replaced_before_anybody_sees_it(family: str, chunk_tokens: int) -> None:
    target = author(family, PLAN, TURN)
    pieces, done = await write(guard(chunk_tokens=chunk_tokens), target)
    assert shown(pieces, Part.REASONING) == "They ask for it.\n\nLet me see. " + TRIGGERS[0].text.reveal() + TURN
    assert shown(pieces, Part.ANSWER) == "Here it is."
    assert done.finish is Finish.STOP
    assert (done.tally.num_cues, done.tally.num_interventions) == (1, 1)


@pytest.mark.parametrize("family", FAMILIES)
async def test_ids_before_the_cut_are_the_ones_that_were_drawn(family: str) -> None:
    target = author(family, PLAN, TURN)
    _, plain = await write(guard(mode="off"), target)
    _, done = await write(guard(), target)
    step = done.intervention
    assert step is not None
    cut = step.cut_token
    assert done.token_ids[:cut] == plain.token_ids[:cut]
    assert (step.kind, step.strategy, step.variant, step.attempt) == ("guard", "cue_trigger", "t1", 1)
    assert step.payload.reveal() == TRIGGERS[0].text.reveal()
    kept = target.template.decode(done.token_ids[:cut]).reveal()
    assert kept.endswith(("Let me see.", "Let me see. "))


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_engine_goes_on_from_exactly_the_kept_and_inserted_ids(family: str) -> None:
    target = author(family, PLAN, TURN)
    _, done = await write(guard(chunk_tokens=0), target)
    start = len(target.requests[0].prompt_tokens)
    first, second = target.requests
    assert second.prompt_tokens[:start] == first.prompt_tokens
    given = second.prompt_tokens[start:]
    assert done.token_ids[: len(given)] == given
    assert len(given) == done.intervention.cut_token + done.tally.num_inserted_tokens  # type: ignore[union-attr]


@pytest.mark.parametrize("chunk_tokens", [0, 1, 5, 64])
@pytest.mark.parametrize("family", FAMILIES)
async def test_off_and_monitor_write_what_the_target_writes(family: str, chunk_tokens: int) -> None:
    target = author(family, PLAN)
    written = {}
    for mode in ("off", "monitor"):
        pieces, done = await write(guard(mode=mode, chunk_tokens=chunk_tokens), target)
        written[mode] = (shown(pieces, Part.REASONING), shown(pieces, Part.ANSWER), done.token_ids)
    assert written["off"] == written["monitor"]
    assert written["off"][:2] == (PLAN, "Here it is.")


async def test_monitor_says_where_it_would_have_cut() -> None:
    _, watched = await write(guard(mode="monitor"), author("qwen", PLAN, TURN))
    _, enforced = await write(guard(), author("qwen", PLAN, TURN))
    assert watched.intervention is not None
    assert enforced.intervention is not None
    assert watched.intervention.failure == "monitored"
    assert watched.intervention.cut_token == enforced.intervention.cut_token
    assert (watched.tally.num_cues, watched.tally.num_interventions, watched.tally.num_discarded_tokens) == (1, 0, 0)


async def test_off_asks_no_detector_and_needs_none() -> None:
    finder = WordFinder()
    await write(guard(finder, mode="off"), author("qwen", PLAN))
    assert finder.seen == []
    assert guards.create("cue_trigger", mode="off").identity != guard().identity


async def test_every_further_cue_takes_the_next_trigger_until_the_response_is_refused() -> None:
    target = author("qwen", PLAN, " The method again. It burns.", " Another method. It burns.")
    pieces, done = await write(guard(max_interventions=2, refusal="No."), target)
    first, second = (trigger.text.reveal() for trigger in TRIGGERS)
    assert shown(pieces, Part.REASONING) == f"They ask for it.\n\nLet me see. {first} {second}"
    assert shown(pieces, Part.ANSWER) == "No."
    assert (done.tally.num_cues, done.tally.num_interventions, done.tally.is_refused) == (3, 2, True)
    assert done.finish is Finish.STOP
    assert done.intervention is not None
    assert done.intervention.failure == "exhausted"
    assert target.template.split(done.token_ids).parse is Parse.CLOSED


async def test_the_seed_says_which_trigger_comes_first() -> None:
    pieces, _ = await write(guard(), author("qwen", PLAN, TURN), seed=1)
    assert TRIGGERS[1].text.reveal() in shown(pieces, Part.REASONING)


async def test_a_guard_that_continues_when_exhausted_shows_the_rest() -> None:
    again = " The method again. It burns."
    pieces, done = await write(guard(max_interventions=1, on_exhausted="continue"), author("qwen", PLAN, again))
    assert shown(pieces, Part.REASONING).endswith(TRIGGERS[0].text.reveal() + again)
    assert (done.tally.num_cues, done.tally.is_refused) == (2, False)


async def test_what_the_detector_cannot_tell_is_shown_once_it_can() -> None:
    thought = "One is fine. Then a mumble. And all is well."
    pieces, done = await write(guard(chunk_tokens=1), author("qwen", thought))
    assert shown(pieces, Part.REASONING) == thought
    assert done.tally.num_unknown == 1
    held = [piece.text.reveal() for piece in pieces if "mumble" in piece.text.reveal()]
    assert held == [" Then a mumble. And all is well."]


@pytest.mark.parametrize(("on_unknown", "answer"), [("refuse", "No."), ("continue", "Here it is.")])
async def test_a_reasoning_that_ends_unknown_ends_as_the_setting_says(on_unknown: str, answer: str) -> None:
    thought = "One is fine. And this ends in a mumble."
    pieces, done = await write(guard(on_unknown=on_unknown, refusal="No.", chunk_tokens=4), author("qwen", thought))
    assert shown(pieces, Part.ANSWER) == answer
    assert ("mumble" in shown(pieces, Part.REASONING)) is (on_unknown == "continue")
    assert done.tally.is_refused is (on_unknown == "refuse")


async def test_a_detector_that_points_at_what_was_shown_cuts_behind_it() -> None:
    class Fickle(WordFinder):
        async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
            self.seen.append(reasoning.reveal())
            return Cue(detector="fickle", step=2, char=16) if len(self.seen) == 3 else Cue(detector="fickle", step=0)

    thought = "One is fine. Two is fine. Three is fine. Four is fine. Five is fine."
    pieces, done = await write(guard(Fickle(), chunk_tokens=5), author("qwen", thought, TURN))
    reasoning = shown(pieces, Part.REASONING)
    assert reasoning.startswith("One is fine. Two is fine. ")
    assert done.tally.num_interventions == 1
    assert reasoning == author("qwen", "").template.split(done.token_ids).reasoning.reveal()


async def test_a_busy_detector_is_the_callers_to_try_again() -> None:
    with pytest.raises(Retry):
        await write(guard(WordFinder(busy=1)), author("qwen", PLAN, TURN))


@pytest.mark.parametrize("chunk_tokens", [0, 7])
@pytest.mark.parametrize("num_tokens", [1, 9, 23, 40])
async def test_no_response_is_longer_than_it_may_be(num_tokens: int, chunk_tokens: int) -> None:
    target = author("llama", PLAN, TURN)
    _, done = await write(guard(chunk_tokens=chunk_tokens), target, sampling=parts.limited(num_tokens))
    num_inserted = done.tally.num_inserted_tokens
    assert len(done.token_ids) <= num_tokens + num_inserted
    assert done.finish is Finish.LENGTH or len(done.token_ids) < num_tokens + num_inserted


async def test_a_full_context_ends_the_response_instead_of_failing() -> None:
    template, tokenizer = template_of("qwen")
    room = len(template.prompt_tokens(prompt().text)) + 20
    target = Author(template, tokenizer, *responses("qwen", "It is fine. " * 30), max_model_len=room)
    _, done = await write(guard(chunk_tokens=5), target)
    assert (done.finish, len(done.token_ids)) == (Finish.LENGTH, 20)


async def test_a_response_without_reasoning_is_shown_as_it_comes() -> None:
    template, tokenizer = template_of("llama")
    pieces, done = await write(guard(chunk_tokens=3), Author(template, tokenizer, "A plain answer, no method."))
    assert shown(pieces, Part.ANSWER) == "A plain answer, no method."
    assert shown(pieces, Part.REASONING) == ""
    assert done.tally.num_looks == 0


async def test_a_reasoning_that_the_model_never_closes_is_looked_at_whole() -> None:
    template, tokenizer = template_of("r1")
    pieces, done = await write(guard(max_interventions=0, refusal="No."), Author(template, tokenizer, PLAN))
    assert "method" not in shown(pieces, Part.REASONING)
    assert shown(pieces, Part.ANSWER) == "No."
    assert done.tally.is_refused


async def test_giving_a_response_up_ends_the_engines_work() -> None:
    import asyncio

    target = author("qwen", PLAN, delay_s=10.0)
    task = asyncio.create_task(write(guard(), target))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert target.num_given_up == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "watch"}, "mode"),
        ({"on_exhausted": "cry"}, "on_exhausted"),
        ({"chunk_tokens": -1}, "chunk_tokens"),
        ({"chunks": 3}, "chunks"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(SetupError, match=named):
        guard(**options)


def test_a_guard_without_detector_or_triggers_says_what_is_missing() -> None:
    with pytest.raises(SetupError, match="detector"):
        guards.create("cue_trigger", triggers=TRIGGERS)
    with pytest.raises(SetupError, match="trigger"):
        guards.create("cue_trigger", finder=WordFinder())


def test_all_that_decides_what_a_guard_does_is_in_its_identity() -> None:
    other: list[dict[str, Any]] = [
        {"mode": "monitor"},
        {"max_interventions": 1},
        {"chunk_tokens": 8},
        {"refusal": "No."},
    ]
    assert len({guard().identity, *(guard(**options).identity for options in other)}) == 5
    assert guard().identity == guard(WordFinder()).identity


# properties -----------------------------------------------------------------------------------------

SENTENCES = st.sampled_from(
    [
        "It is so.",
        "Der Käse — ja!",
        "考えてみよう。",
        "The method is this.",
        "A 👩‍🚀 flies.",
        "e.g. a mumble.",
        "Say </thin",
        "1. One",
    ]
)
GAPS = st.sampled_from([" ", "\n\n", "\n", "  "])
THOUGHT = st.lists(st.tuples(SENTENCES, GAPS), min_size=1, max_size=7).map(lambda s: "".join(a + b for a, b in s))
TEMPLATES = {family: template_of(family) for family in FAMILIES}


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    thoughts=st.lists(THOUGHT, min_size=1, max_size=4),
    chunk_tokens=st.integers(0, 12),
    max_interventions=st.integers(0, 3),
    end=st.sampled_from(["refuse", "continue"]),
)
async def test_whatever_is_written_what_was_shown_is_what_was_kept(
    family: str, thoughts: list[str], chunk_tokens: int, max_interventions: int, end: str
) -> None:
    template, tokenizer = TEMPLATES[family]
    target = Author(template, tokenizer, *responses(family, *thoughts))
    watcher = guard(
        chunk_tokens=chunk_tokens, max_interventions=max_interventions, on_exhausted=end, on_unknown=end, refusal="No."
    )
    pieces, done = await write(watcher, target)
    split = template.split(done.token_ids)
    assert shown(pieces, Part.REASONING) == split.reasoning.reveal()
    assert shown(pieces, Part.ANSWER) == split.answer.reveal()
    tally = done.tally
    assert len(done.token_ids) == tally.num_new_tokens - tally.num_discarded_tokens + tally.num_inserted_tokens
    assert tally.num_interventions <= max_interventions
    if end == "refuse":
        assert (await WordFinder().find(prompt(), split.reasoning)).step <= 0, "no cue is left"


async def test_the_same_assignment_is_written_the_same_way() -> None:
    asked: list[list[ModelRequest]] = []
    for _ in range(2):
        target = author("qwen", PLAN, TURN)
        await write(guard(chunk_tokens=5), target, seed=7)
        asked.append(target.requests)
    assert asked[0] == asked[1]
    seeds = [request.seed for request in asked[0]]
    assert seeds[0] == 7
    assert len(set(seeds)) == len(seeds), "no two calls of a response share their random numbers"


async def test_the_guard_counts_what_the_engine_took() -> None:
    target = author("qwen", PLAN, TURN)
    given: list[Completion] = []
    complete = target.complete

    class Counting(Author):
        async def complete(self, request: ModelRequest) -> Completion:
            given.append(await complete(request))
            return given[-1]

    template, tokenizer = template_of("qwen")
    counting = Counting(template, tokenizer, *responses("qwen", PLAN, TURN))
    _, done = await write(guard(chunk_tokens=6), counting)
    assert done.tally.num_calls == len(given)
    assert done.tally.num_new_tokens == sum(len(completion.token_ids) for completion in given)
    assert done.tally.num_prompt_tokens == sum(completion.num_prompt_tokens for completion in given)
