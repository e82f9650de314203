"""What every `TextModel` promises, as checks that run over each adapter.

Each check takes a `Subject`: an open engine and how to open another on the same model. Engines differ in what they
can; checks that need a capability are left out for engines without it, by `checks_for`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from tracemend.kit.errors import Reject, Retry
from tracemend.kit.ports import Capabilities, ModelRequest, TextModel
from tracemend.records import Finish, Sampling

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=24)
SECRET = "xylophone-marmalade"


@dataclass(frozen=True)
class Subject:
    """An engine under test, shared by the checks."""

    model: TextModel
    reopen: Callable[[], TextModel]
    """Opens another engine on the same model."""


def ask(
    index: int, *, sampling: Sampling = GREEDY, stop: tuple[str, ...] = (), seed: int | None = None
) -> ModelRequest:
    """A request of its own for each index; lengths differ, so that batches need padding."""
    words = f"question {index}: " + "how do I make bread? " * (1 + index % 4) + f"and {index * 7} more"
    messages = ({"role": "user", "content": words},)
    return ModelRequest(messages=messages, sampling=sampling, stop=stop, seed=index if seed is None else seed)


async def completes(subject: Subject) -> None:
    completion = await subject.model.complete(ask(0))
    assert completion.text.reveal()
    assert completion.finish in (Finish.STOP, Finish.LENGTH)
    assert completion.num_new_tokens > 0
    assert completion.num_prompt_tokens > 0
    assert completion.seconds >= 0


async def answers_each_of_fifty_by_its_own_prompt(subject: Subject) -> None:
    together = await asyncio.gather(*(subject.model.complete(ask(i)) for i in range(50)))
    assert len({c.text.reveal() for c in together}) >= 40
    for index in (0, 7, 23, 49):
        alone = await subject.model.complete(ask(index))
        assert alone.text.reveal() == together[index].text.reveal()
        assert alone.num_prompt_tokens == together[index].num_prompt_tokens


async def greedy_gives_the_same_twice(subject: Subject) -> None:
    first, second = [await subject.model.complete(ask(3, seed=seed)) for seed in (1, 2)]
    assert first.text.reveal() == second.text.reveal()
    assert first.token_ids == second.token_ids


async def narrow_sampling_is_greedy(subject: Subject) -> None:
    """The narrowest top-k and top-p are greedy decoding by another name."""
    greedy = await subject.model.complete(ask(4))
    for narrow in (Sampling(temperature=1.0, top_p=1.0, top_k=1), Sampling(temperature=1.0, top_p=1e-6)):
        drawn = await subject.model.complete(ask(4, sampling=replace(narrow, max_new_tokens=24)))
        assert drawn.text.reveal() == greedy.text.reveal()


async def length_ends_at_max_new_tokens(subject: Subject) -> None:
    completion = await subject.model.complete(ask(5, sampling=replace(GREEDY, max_new_tokens=3)))
    assert completion.finish is Finish.LENGTH
    assert completion.num_new_tokens == 3


async def stops_before_a_stop_string(subject: Subject) -> None:
    free = (await subject.model.complete(ask(6))).text.reveal()
    stop = free[len(free) // 2 :][:3]
    at = free.index(stop)
    stopped = await subject.model.complete(ask(6, stop=(stop, "never written")))
    assert stopped.finish is Finish.STOP
    assert stopped.text.reveal() == free[:at]


async def seeds_rule_the_draw_and_neighbours_do_not(subject: Subject) -> None:
    warm = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=24)
    alone = await subject.model.complete(ask(8, sampling=warm, seed=77))
    requests = [ask(i, sampling=warm, seed=100 + i) for i in range(20)] + [ask(8, sampling=warm, seed=77)]
    crowded = (await asyncio.gather(*map(subject.model.complete, requests)))[-1]
    assert crowded.token_ids == alone.token_ids
    assert crowded.text.reveal() == alone.text.reveal()


async def other_seeds_draw_other_tokens(subject: Subject) -> None:
    warm = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=24)
    drawn = await asyncio.gather(*(subject.model.complete(ask(9, sampling=warm, seed=s)) for s in range(8)))
    assert len({c.token_ids for c in drawn}) > 4


async def a_continuation_is_token_exact(subject: Subject) -> None:
    prompt = tuple(range(40, 70))
    whole = await subject.model.complete(ModelRequest(prompt_tokens=prompt, sampling=GREEDY))
    assert len(whole.token_ids) == whole.num_new_tokens
    for head in (1, 5, len(whole.token_ids) - 1):
        rest = replace(GREEDY, max_new_tokens=GREEDY.max_new_tokens - head)
        forked = await subject.model.complete(
            ModelRequest(prompt_tokens=prompt + whole.token_ids[:head], sampling=rest)
        )
        assert forked.token_ids == whole.token_ids[head:]
        assert forked.num_prompt_tokens == len(prompt) + head


async def forks_of_one_trace_share_what_was_read(subject: Subject) -> None:
    """A fork begins as a trace did and goes on otherwise; the same fork asked again begins as the first one did."""
    prompt = tuple(range(40, 110))
    whole = await subject.model.complete(ModelRequest(prompt_tokens=prompt, sampling=GREEDY))
    fork = ModelRequest(prompt_tokens=(*prompt, *whole.token_ids[:12], 60, 61, 62), sampling=GREEDY)
    first = await subject.model.complete(fork)
    together = await asyncio.gather(*(subject.model.complete(fork) for _ in range(4)))
    assert {each.token_ids for each in together} == {first.token_ids}
    for each in (first, *together):
        assert each.num_prompt_tokens == len(fork.prompt_tokens)
        assert len(prompt) // 2 < each.num_cached_tokens <= each.num_prompt_tokens


async def logprobs_are_those_of_the_drawn_tokens(subject: Subject) -> None:
    request = replace(ask(10), num_logprobs=1)
    completion = await subject.model.complete(request)
    assert len(completion.logprobs) == completion.num_new_tokens
    assert all(value <= 0 for value in completion.logprobs)


async def a_prompt_that_does_not_fit_is_rejected_without_quoting_it(subject: Subject) -> None:
    length = subject.model.capabilities.max_model_len
    long = ModelRequest(messages=({"role": "user", "content": SECRET + " and so on" * length},), sampling=GREEDY)
    with pytest.raises(Reject) as raised:
        await subject.model.complete(long)
    assert raised.value.reason == "prompt_too_long"
    assert SECRET not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"


async def a_prompt_that_nearly_fits_gets_the_room_that_is_left(subject: Subject) -> None:
    length = subject.model.capabilities.max_model_len
    request = ModelRequest(prompt_tokens=(50,) * (length - 4), sampling=replace(GREEDY, max_new_tokens=1000))
    completion = await subject.model.complete(request)
    assert 1 <= completion.num_new_tokens <= 4


async def unknown_token_ids_are_rejected(subject: Subject) -> None:
    with pytest.raises(Reject):
        await subject.model.complete(ModelRequest(prompt_tokens=(5, 10**7), sampling=GREEDY))


async def an_empty_request_is_rejected(subject: Subject) -> None:
    with pytest.raises(Reject):
        await subject.model.complete(ModelRequest(sampling=GREEDY))


async def cancelling_one_request_leaves_the_others_alone(subject: Subject) -> None:
    tasks = [asyncio.create_task(subject.model.complete(ask(i))) for i in range(10)]
    await asyncio.sleep(0.01)
    tasks[4].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    alone = await subject.model.complete(ask(5))
    assert not isinstance(done[5], BaseException)
    assert done[5].text.reveal() == alone.text.reveal()
    assert sum(isinstance(d, BaseException) for d in done) <= 1


async def identity_is_the_models_and_not_the_engines(subject: Subject) -> None:
    other = await asyncio.to_thread(subject.reopen)
    try:
        assert other.identity == subject.model.identity
        assert subject.model.identity
    finally:
        await other.aclose()


async def closing_ends_what_is_under_way_with_retry(subject: Subject) -> None:
    model = await asyncio.to_thread(subject.reopen)
    long = replace(GREEDY, max_new_tokens=200)
    tasks = [asyncio.create_task(model.complete(ask(i, sampling=long))) for i in range(100)]
    await asyncio.sleep(0.05)
    await model.aclose()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert all(isinstance(e, Retry) for e in ended if isinstance(e, BaseException))
    assert any(isinstance(e, Retry) for e in ended)
    with pytest.raises(Retry):
        await model.complete(ask(0))


Check = Callable[[Subject], Awaitable[None]]

ALWAYS: tuple[Check, ...] = (
    completes,
    answers_each_of_fifty_by_its_own_prompt,
    greedy_gives_the_same_twice,
    cancelling_one_request_leaves_the_others_alone,
    length_ends_at_max_new_tokens,
    stops_before_a_stop_string,
)
REOPENING: tuple[Check, ...] = (identity_is_the_models_and_not_the_engines, closing_ends_what_is_under_way_with_retry)


def checks_for(capabilities: Capabilities, *, reopens: bool = True, samples: bool = True) -> list[Check]:
    """The checks that apply to an engine; `samples` where it draws tokens at all."""
    checks = list(ALWAYS)
    if samples:
        checks += [narrow_sampling_is_greedy, an_empty_request_is_rejected]
    if samples and capabilities.seeds:
        checks += [seeds_rule_the_draw_and_neighbours_do_not, other_seeds_draw_other_tokens]
    if capabilities.token_ids:
        checks += [a_continuation_is_token_exact, unknown_token_ids_are_rejected]
    if capabilities.token_ids and capabilities.prefix_cache:
        checks.append(forks_of_one_trace_share_what_was_read)
    if capabilities.logprobs:
        checks.append(logprobs_are_those_of_the_drawn_tokens)
    if capabilities.max_model_len:
        checks.append(a_prompt_that_does_not_fit_is_rejected_without_quoting_it)
    if capabilities.max_model_len and capabilities.token_ids:
        checks.append(a_prompt_that_nearly_fits_gets_the_room_that_is_left)
    return checks + (list(REOPENING) if reopens else [])
