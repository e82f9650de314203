"""The guard server as an ASGI application, in front of a target that writes from a script: bodies, errors, bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.unit.generator.guard_parts import TRIGGERS, Author, WordFinder, template_of
from tests.unit.generator.test_guard_cue_trigger import PLAN, TURN, responses
from tests.unit.traces import trace_models as families

from tracemend.generator.guard_server import Served, ServerSettings, build_app
from tracemend.generator.guarding import guards
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.traces.template import ChatTemplate

SECRET = "zanzibar-42"
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": f"how ? {SECRET}"}], "seed": 0}


def author(*thoughts: str, **options: Any) -> Author:
    template, tokenizer = template_of("qwen")
    return Author(template, tokenizer, *responses("qwen", *thoughts), **options)


def app_of(
    target: Author | None = None, *, mode: str = "enforce", api_key: str = "", finder: Any = None, **limits: Any
) -> Any:
    target = target or author(PLAN, TURN)
    guard = guards.create("cue_trigger", mode=mode, finder=finder or WordFinder(), triggers=TRIGGERS, chunk_tokens=8)
    served = Served(name="tiny", model=target, template=target.template, guard=guard, mode=mode)
    return build_app(served, ServerSettings(**limits), api_key=api_key)


def client_of(app: Any, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://guard", headers=headers)


async def post(body: Any, app: Any = None, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client_of(app or app_of(), **headers) as client:
        return await client.post("/v1/chat/completions", content=content)


def events(reply: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_reply_holds_reasoning_answer_usage_and_what_the_guard_did() -> None:
    reply = await post(ASK)
    body = reply.json()
    message = body["choices"][0]["message"]
    assert message["content"] == "Here it is."
    assert message["reasoning"] == message["reasoning_content"]
    assert message["reasoning"].endswith(TRIGGERS[0].text.reveal() + TURN)
    assert "method" not in reply.text
    assert (body["choices"][0]["finish_reason"], body["object"], body["model"]) == ("stop", "chat.completion", "tiny")
    usage, told = body["usage"], body["tracemend"]
    assert (told["mode"], told["cues"], told["interventions"], told["refused"]) == ("enforce", 1, 1, False)
    assert usage["completion_tokens_details"]["discarded_tokens"] == told["discarded_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("mode", ["enforce", "monitor", "off"])
async def test_a_stream_gives_in_pieces_what_a_whole_reply_gives(mode: str) -> None:
    whole = (await post(ASK, app_of(mode=mode))).json()
    reply = await post(ASK | {"stream": True, "stream_options": {"include_usage": True}}, app_of(mode=mode))
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, closing, usage = events(reply)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    message = whole["choices"][0]["message"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert (closing["choices"][0]["finish_reason"], usage["choices"]) == ("stop", [])
    assert (usage["usage"], closing["tracemend"]) == (whole["usage"], whole["tracemend"])
    assert ("method" in message["reasoning"]) is (mode != "enforce")
    assert len({chunk["id"] for chunk in (*chunks, closing, usage)}) == 1


HOSTILE: list[tuple[bytes | dict[str, Any], int, str]] = [
    (b"", 400, "invalid_json"),
    (b"\xff\xfe{", 400, "invalid_json"),
    (b"[" * 100_000, 400, "invalid_json"),
    (b'{"seed": ' + b"9" * 10_000 + b"}", 400, "invalid_json"),
    (b"[]", 400, "invalid_json"),
    ({}, 400, "missing_required_parameter"),
    (ASK | {"model": "other"}, 404, "model_not_found"),
    (ASK | {"model": 7}, 400, "invalid_value"),
    (ASK | {"messages": []}, 400, "invalid_value"),
    (ASK | {"messages": [{"role": "tool", "content": SECRET}]}, 400, "invalid_value"),
    (ASK | {"messages": [{"role": "user", "content": None}]}, 400, "invalid_value"),
    (ASK | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": SECRET}]}]}, 400, ""),
    (
        ASK | {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        400,
        "invalid_value",
    ),
    (ASK | {"temperature": "hot"}, 400, "invalid_value"),
    (ASK | {"top_p": 0}, 400, "invalid_value"),
    (ASK | {"max_tokens": 0}, 400, "invalid_value"),
    (ASK | {"stream": "yes"}, 400, "invalid_value"),
    (ASK | {"n": 2}, 400, "unsupported_parameter"),
    (ASK | {"stop": ["x"]}, 400, "unsupported_parameter"),
    (ASK | {"tools": [{"type": "function"}]}, 400, "unsupported_parameter"),
    (ASK | {"logprobs": True}, 400, "unsupported_parameter"),
    (ASK | {"reasoning_effort": "low"}, 400, "unsupported_parameter"),
    (ASK | {f"x{SECRET}": 1}, 400, "unknown_parameter"),
    (b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}', 400, "invalid_value"),
]


@pytest.mark.parametrize(("body", "status", "code"), HOSTILE)
async def test_a_bad_request_is_told_in_openais_form_and_in_no_word_of_it(
    body: bytes | dict[str, Any], status: int, code: str
) -> None:
    reply = await post(body)
    error = reply.json()["error"]
    assert (reply.status_code, set(error)) == (status, {"message", "type", "param", "code"})
    assert error["code"] == code or not code
    assert error["type"] == "invalid_request_error"
    assert SECRET not in reply.text


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"stream": "yes"}, "stream"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
    ],
)
async def test_an_error_names_the_parameter_that_is_wrong(wrong: dict[str, Any], param: str) -> None:
    error = (await post(ASK | wrong)).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


async def test_a_reply_can_be_sent_back_as_it_came() -> None:
    target = author("It is fine.")
    app = app_of(target)
    reply = (await post(ASK, app)).json()["choices"][0]["message"]
    turns = [*ASK["messages"], reply | {"tool_calls": None, "annotations": []}, {"role": "user", "content": "And now?"}]
    num_before = len(target.requests)
    assert (await post(ASK | {"messages": turns}, app)).status_code == 200
    asked = target.template.decode(target.requests[num_before].prompt_tokens).reveal()
    assert reply["content"] in asked
    assert reply["reasoning"] not in asked


async def test_words_that_no_encoding_knows_and_control_tokens_are_only_words() -> None:
    words = json.dumps(ASK | {"messages": [{"role": "user", "content": "a \ud800 <|im_end|> </think> \x00"}]}).encode()
    assert (await post(words)).status_code == 200


async def test_a_conversation_reaches_the_model_turn_by_turn() -> None:
    target = author(PLAN, TURN)
    turns = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
    ]
    assert (await post(ASK | {"messages": turns}, app_of(target))).status_code == 200
    text = target.template.decode(target.requests[0].prompt_tokens).reveal()
    assert [text.index(words) for words in ("be brief", "one two", "three", "four")] == sorted(
        text.index(words) for words in ("be brief", "one two", "three", "four")
    )


async def test_a_body_beyond_the_bound_is_refused_stated_or_not() -> None:
    app = app_of(max_body_bytes=200)
    assert (await post(b"x" * 201, app)).json()["error"]["code"] == "body_too_large"

    async def in_parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 10

    async with client_of(app) as client:
        reply = await client.post("/v1/chat/completions", content=in_parts())
    assert reply.status_code == 413


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async with client_of(app_of(body_timeout_s=0.05)) as client:
        reply = await client.post("/v1/chat/completions", content=never())
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "body_timeout")


async def test_more_requests_than_there_is_room_for_are_told_to_come_back() -> None:
    app = app_of(author(PLAN, TURN, delay_s=0.05), max_running=1, max_waiting=1)
    replies = await asyncio.gather(*(post(ASK, app) for _ in range(6)))
    assert sorted(reply.status_code for reply in replies) == [200, 200, 429, 429, 429, 429]
    busy = next(reply for reply in replies if reply.status_code == 429)
    assert (busy.json()["error"]["type"], busy.headers["retry-after"]) == ("rate_limit_error", "1")
    assert (await post(ASK, app)).status_code == 200, "a place that was left is free again"


async def test_no_more_responses_are_written_at_once_than_allowed() -> None:
    running = most = 0

    class Watched(Author):
        async def complete(self, request: ModelRequest) -> Completion:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return await super().complete(request)
            finally:
                running -= 1

    template, tokenizer = template_of("qwen")
    target = Watched(template, tokenizer, *responses("qwen", PLAN, TURN), delay_s=0.002)
    app = app_of(target, max_running=3)
    replies = await asyncio.gather(*(post(ASK, app) for _ in range(32)))
    assert {reply.status_code for reply in replies} == {200}
    assert most == 3


async def test_a_response_that_takes_too_long_ends_in_503_and_ends_the_engines_work() -> None:
    target = author(PLAN, TURN, delay_s=5.0)
    reply = await post(ASK, app_of(target, timeout_s=0.05))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "timeout")
    assert target.num_given_up == 1


async def test_a_busy_detector_is_503_and_later_in_a_stream_an_event() -> None:
    reply = await post(ASK, app_of(finder=WordFinder(busy=9)))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "busy")
    assert "retry-after" in reply.headers

    class Late(WordFinder):
        async def find(self, prompt: Any, reasoning: Any) -> Any:
            self._busy = len(self.seen) >= 2
            return await super().find(prompt, reasoning)

    streamed = await post(ASK | {"stream": True}, app_of(author("Fine. " * 30), finder=Late()))
    assert streamed.status_code == 200
    assert events(streamed)[-1]["error"]["code"] == "busy"


async def test_a_prompt_that_the_engine_refuses_is_the_clients_error() -> None:
    class Full(Author):
        async def complete(self, request: ModelRequest) -> Completion:
            raise Reject("prompt_too_long", "900 tokens; the model holds 512 with the response")

    template, tokenizer = template_of("qwen")
    reply = await post(ASK, app_of(Full(template, tokenizer, "x")))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_conversation_that_the_template_refuses_is_422_and_told_in_no_word_of_it(is_streamed: bool) -> None:
    strict = "{% if messages[0].role == 'system' and messages|length == 4 %}{{ raise_exception('odd') }}{% endif %}"
    tokenizer = families.byte_level(strict + families.LLAMA, families.LLAMA_CONTROLS, words=families.LLAMA3_WORDS)
    target = Author(ChatTemplate.load(tokenizer, "think"), tokenizer, "<think>\nIt is so.\n</think>\n\nHere it is.")
    said = [("system", "Be brief."), ("user", SECRET), ("assistant", "What?"), ("user", SECRET)]
    body = ASK | {"messages": [{"role": role, "content": words} for role, words in said], "stream": is_streamed}
    reply = await post(body, app_of(target))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (422, "conversation_refused", "messages")
    assert SECRET not in reply.text
    assert target.requests == []


async def test_ids_that_the_engine_does_not_take_are_422_with_the_engines_reason() -> None:
    class Picky(Author):
        async def complete(self, request: ModelRequest) -> Completion:
            raise Reject("unknown_tokens", f"token 99999 is not in the vocabulary; {SECRET}")

    template, tokenizer = template_of("qwen")
    reply = await post(ASK, app_of(Picky(template, tokenizer, "no")))
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "unknown_tokens")
    assert SECRET not in reply.text


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_health_says_that_nothing_can_be_written_until_something_is_again(is_streamed: bool) -> None:
    class Mended(Author):
        is_broken = True

        async def complete(self, request: ModelRequest) -> Completion:
            if self.is_broken:
                raise SetupError(f"the engine's thread ended: {SECRET}")
            return await super().complete(request)

    template, tokenizer = template_of("qwen")
    target = Mended(template, tokenizer, *responses("qwen", PLAN, TURN))
    app = app_of(target)
    async with client_of(app) as client:
        assert (await client.get("/health")).status_code == 200
        assert (await post(ASK | {"stream": is_streamed}, app)).status_code == 500
        told = await client.get("/health")
        assert (told.status_code, told.json()["status"]) == (503, "broken")
        assert SECRET not in told.text
        target.is_broken = False
        assert (await post(ASK | {"stream": is_streamed}, app)).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_a_bug_is_500_and_tells_no_word_of_the_request() -> None:
    class Broken(Author):
        async def complete(self, request: ModelRequest) -> Completion:
            raise RuntimeError(SECRET)

    template, tokenizer = template_of("qwen")
    reply = await post(ASK, app_of(Broken(template, tokenizer, "x")))
    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "server_error")
    assert SECRET not in reply.text


def test_a_blank_key_opens_no_door() -> None:
    with pytest.raises(SetupError, match="blank"):
        app_of(api_key=" \n")


async def test_with_a_key_v1_is_closed_to_others_and_health_is_not() -> None:
    app = app_of(api_key="secret\n")  # as files and secrets end
    assert (await post(ASK, app)).status_code == 401
    assert (await post(ASK, app, authorization="Bearer wrong")).status_code == 401
    assert (await post(ASK, app, authorization="Bearer secret")).status_code == 200
    async with client_of(app) as client:
        assert (await client.get("/v1/models")).json()["error"]["code"] == "invalid_api_key"
        assert (await client.get("/health")).status_code == 200


async def test_models_health_and_paths_that_are_not_there() -> None:
    async with client_of(app_of()) as client:
        assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == ["tiny"]
        assert (await client.get("/v1/models/tiny")).json()["object"] == "model"
        assert (await client.get("/health")).json() == {"status": "ok", "model": "tiny", "mode": "enforce"}
        for reply in (await client.get("/v1/models/other"), await client.get("/v1/completions")):
            assert reply.status_code == 404
            assert reply.json()["error"]["message"]
        assert (await client.get("/v1/chat/completions")).status_code == 405


async def test_metrics_count_requests_tokens_and_what_the_guard_did() -> None:
    app = app_of()
    told = (await post(ASK, app)).json()["tracemend"]
    await post(b"{", app)
    async with client_of(app) as client:
        text = (await client.get("/metrics")).text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    prefix = "tracemend_guard_"
    assert float(samples[f'{prefix}requests_total{{path="/v1/chat/completions",status="200"}}']) == 1
    assert float(samples[f'{prefix}requests_total{{path="/v1/chat/completions",status="400"}}']) == 1
    assert float(samples[f"{prefix}interventions_total"]) == told["interventions"]
    assert float(samples[f'{prefix}tokens_total{{kind="discarded"}}']) == told["discarded_tokens"]
    assert float(samples[f'{prefix}responses_total{{end="intervened"}}']) == 1
    assert float(samples[f"{prefix}requests_in_progress"]) == 0


def test_an_engine_without_token_ids_is_refused_with_the_remedy() -> None:
    target = author(PLAN)
    target.capabilities = Capabilities()
    with pytest.raises(SetupError, match="completions: true"):
        app_of(target)
