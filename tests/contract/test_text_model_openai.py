"""The openai engine against an endpoint that fails in every way that real ones do (loopback only)."""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.certificates import Authority
from tests.contract import faulty_server as faults
from tests.contract import text_model_suite as suite

from tracemend.adapters.openai_replies import error_codes, retry_after_s
from tracemend.kit.errors import Reject, Retry, SetupError, TracemendError
from tracemend.kit.ports import Completion, ModelRequest, TextModel
from tracemend.records import Finish
from tracemend.runtime.models import open_model

ASK = ModelRequest(messages=({"role": "user", "content": suite.SECRET},), sampling=suite.GREEDY, seed=3)
QUICK: dict[str, Any] = {"max_attempts": 4, "connect_timeout_s": 1.0, "read_timeout_s": 0.5}


async def ask(
    *answers: faults.Answer, request: ModelRequest = ASK, **options: Any
) -> tuple[Completion, faults.Endpoint]:
    async with faults.serving(*answers) as endpoint:
        model = open_model(endpoint.url, options=QUICK | options)
        try:
            return await model.complete(request), endpoint
        finally:
            await model.aclose()


async def failure(*answers: faults.Answer, **options: Any) -> TracemendError:
    """The error of a request, checked to hold no word of the prompt and no key."""
    with pytest.raises(TracemendError) as raised:
        await ask(*answers, **options)
    error: BaseException | None = raised.value
    while error is not None:
        assert suite.SECRET not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
    return raised.value


async def test_a_good_reply_becomes_a_completion() -> None:
    completion, endpoint = await ask(faults.good("four words, no more"))
    assert completion.text.reveal() == "four words, no more"
    assert (completion.finish, completion.num_prompt_tokens, completion.num_new_tokens) == (Finish.STOP, 11, 3)
    body = endpoint.bodies[0]
    assert body["messages"] == [{"role": "user", "content": suite.SECRET}]
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("tiny", 0.0, 24, 3)
    assert not {"top_k", "repetition_penalty", "stop", "logprobs"} & set(body)
    assert endpoint.seen["/v1/chat/completions"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(429, headers={"Retry-After": "0"}),
        faults.error(500),
        faults.error(503),
        faults.good(after_s=3.0),
        faults.cut_short(),
        faults.hangs_up(),
        faults.reply(b"<html><body>502 Bad Gateway</body></html>"),
        faults.reply(b'{"choices": ['),
        faults.reply({"choices": []}),
        faults.reply({"choices": [{"message": None}]}),
        faults.reply([1, 2]),
        faults.reply({"error": {"code": 502, "message": "upstream"}}),
        faults.good(finish="error"),
    ],
    ids=["429", "500", "503", "timeout", "cut", "hang-up", "html", "half-json", "no-choice", "no-message", "list",
         "error-in-200", "finish-error"],
)  # fmt: skip
async def test_a_passing_fault_is_tried_again_and_a_lasting_one_ends_with_retry(fault: faults.Answer) -> None:
    completion, endpoint = await ask(fault, faults.good())
    assert completion.text.reveal() == "fine"
    assert sum(endpoint.seen.values()) == 2
    assert isinstance(await failure(fault, max_attempts=2), Retry)


async def test_an_endpoint_that_is_not_there_ends_with_retry() -> None:
    async with faults.serving(faults.good()) as endpoint:
        url = endpoint.url
    model = open_model(url, options=QUICK | {"max_attempts": 1})
    with capture_logs() as logged:
        for _ in range(2):
            with pytest.raises(Retry, match="connection"):
                await model.complete(ASK)
    assert [line["at"] for line in logged] == [url.partition("@")[2]], "an outage is told once, by its address"
    await model.aclose()


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_waited_for(as_date: bool) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2)
    stated = email.utils.format_datetime(at, usegmt=True) if as_date else "1.0"
    started = time.monotonic()
    await ask(faults.error(429, headers={"Retry-After": stated}), faults.good())
    assert time.monotonic() - started >= 0.9


async def test_a_long_retry_after_is_handed_up_instead_of_slept() -> None:
    started = time.monotonic()
    error = await failure(faults.error(429, headers={"Retry-After": "3600"}))
    assert isinstance(error, Retry)
    assert error.after_s == 3600
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("stated", "seconds"), [("7", 7.0), ("-3", 0.0), ("soon", 1.0), ("", 1.0), ("nan", 1.0)])
def test_odd_retry_after_values(stated: str, seconds: float) -> None:
    assert retry_after_s({"Retry-After": stated}, 1.0) == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    headers = {"Retry-After": "Thu, 01 Jan 2026 00:01:30 GMT"}
    assert retry_after_s(headers, 1.0, now=now) == 90


async def test_filters_are_a_state_and_not_an_error() -> None:
    refused, _ = await ask(faults.error(400, code="content_filter"))
    assert (refused.finish, refused.text.reveal()) == (Finish.FILTERED, "")
    inner, _ = await ask(faults.error(400, code="400", innererror={"code": "ResponsibleAIPolicyViolation"}))
    assert inner.finish is Finish.FILTERED
    half, _ = await ask(faults.good("half a", finish="content_filter"))
    assert (half.finish, half.text.reveal()) == (Finish.FILTERED, "half a")


@pytest.mark.parametrize("stated", ["length", "max_tokens"])
async def test_length_is_length(stated: str) -> None:
    assert (await ask(faults.good(finish=stated)))[0].finish is Finish.LENGTH


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_a_reasoning_field_is_kept_apart_from_the_answer(name: str) -> None:
    completion, _ = await ask(faults.good("the answer", extra={name: "the thought"}))
    assert completion.reasoning is not None
    assert (completion.reasoning.reveal(), completion.text.reveal()) == ("the thought", "the answer")


async def test_refusals_and_parts_are_text() -> None:
    completion, _ = await ask(faults.good(None, extra={"refusal": "no"}))  # providers send null
    assert completion.text.reveal() == "no"
    parts = [{"type": "text", "text": "one "}, {"type": "image"}, {"type": "text", "text": "two"}]
    assert (await ask(faults.good(parts)))[0].text.reveal() == "one two"


@pytest.mark.parametrize("stated", ["abort", "insufficient_system_resource", None, ""])
async def test_a_reply_that_does_not_say_it_is_whole_is_asked_for_again(stated: str | None) -> None:
    completion, endpoint = await ask(faults.good("half a", finish=stated), faults.good("whole"))
    assert completion.text.reveal() == "whole"
    assert len(endpoint.bodies) == 2


async def test_half_a_surrogate_in_a_reply_survives_as_text() -> None:
    completion, _ = await ask(
        faults.reply(b'{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "stop"}]}')
    )
    assert completion.text.reveal() == "a?b"


async def test_other_client_errors_are_rejected_by_their_code_alone() -> None:
    error = await failure(faults.error(400, code="invalid_value", type="invalid_request_error"))
    assert isinstance(error, Reject)
    assert str(error) == "http_400: invalid_value, invalid_request_error"
    assert isinstance(await failure(faults.error(422, code=suite.SECRET + " in a code")), Reject)


async def test_a_prompt_over_the_context_length_is_rejected_as_too_long() -> None:
    by_code = await failure(faults.error(400, code="context_length_exceeded"))
    by_words = await failure(faults.reply({"error": {"message": "maximum context length is 5 tokens"}}, status=400))
    assert {getattr(e, "reason", "") for e in (by_code, by_words)} == {"prompt_too_long"}


async def test_a_response_over_the_context_length_is_asked_for_without_a_maximum() -> None:
    completion, endpoint = await ask(faults.error(400, code="context_length_exceeded"), faults.good())
    assert completion.text.reveal() == "fine"
    assert "max_tokens" in endpoint.bodies[0]
    assert "max_tokens" not in endpoint.bodies[1]


async def test_a_setting_that_the_endpoint_does_not_take_is_named_and_not_left_out() -> None:
    refused = {"code": "unsupported_parameter", "type": "invalid_request_error"}
    words = "Unsupported parameter: 'max_tokens' is not supported with this model."
    renamed = await failure(faults.reply({"error": {"message": words, "param": "max_tokens"} | refused}, status=400))
    assert isinstance(renamed, SetupError)
    assert "max_tokens_field" in str(renamed)
    other = await failure(faults.error(400, param="temperature", code="unsupported_value"))
    assert "does not take temperature" in str(other)
    quoting = await failure(faults.error(400, param=f"a {suite.SECRET}", code="unsupported_value"))
    assert "a setting that was sent" in str(quoting)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_key_or_address_is_a_setup_error(status: int) -> None:
    assert isinstance(await failure(faults.error(status)), SetupError)


async def test_a_certificate_that_nobody_vouches_for_is_a_setup_error(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("endpoint")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(issued.cert_file, issued.key_file)
    async with faults.serving(faults.good(), tls=tls) as endpoint:
        model = open_model(endpoint.url, options=QUICK)
        with pytest.raises(SetupError, match=r"no trusted connection to 127\.0\.0\.1"):
            await model.complete(ASK)
        await model.aclose()


async def test_redirects_are_not_followed() -> None:
    async with faults.serving(faults.good()) as elsewhere:
        target = elsewhere.url.partition("@")[2]
        assert isinstance(await failure(faults.redirects(target)), SetupError)
        assert not elsewhere.seen


async def test_the_key_comes_from_the_environment_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="TRACEMEND_TEST_KEY"):
        open_model("openai:tiny@http://127.0.0.1:1/v1", options={"api_key_env": "TRACEMEND_TEST_KEY"})
    for wrong in (" \n", "sk-…", "one\ntwo"):
        monkeypatch.setenv("TRACEMEND_TEST_KEY", wrong)
        with pytest.raises(SetupError, match="TRACEMEND_TEST_KEY"):
            open_model("openai:tiny@http://127.0.0.1:1/v1", options={"api_key_env": "TRACEMEND_TEST_KEY"})
    monkeypatch.setenv("TRACEMEND_TEST_KEY", "sk-very-private\n")  # as secrets that were written with an editor end
    _, endpoint = await ask(faults.good(), api_key_env="TRACEMEND_TEST_KEY")
    assert endpoint.headers[0]["Authorization"] == "Bearer sk-very-private"
    model = open_model(endpoint.url, options=QUICK | {"api_key_env": "TRACEMEND_TEST_KEY", "max_attempts": 1})
    with pytest.raises(Retry) as raised:
        await model.complete(ASK)
    assert "sk-very" not in f"{model!r} {vars(model)} {raised.value!r} {raised.value.__cause__!r}"
    await model.aclose()


async def test_usage_is_priced() -> None:
    completion, _ = await ask(faults.good(), price_per_million_input=2.0, price_per_million_output=10.0)
    assert completion.money == pytest.approx(11 * 2e-6 + 3 * 10e-6)


async def test_concurrency_settles_near_what_the_endpoint_bears() -> None:
    endpoint: faults.Endpoint
    async with faults.serving(faults.throttles_above(8, lambda: endpoint)) as endpoint:
        model = open_model(endpoint.url, options=QUICK | {"concurrency": 64, "max_attempts": 30})
        done = await asyncio.gather(*(model.complete(ASK) for _ in range(300)))
        assert len(done) == 300
        refused = sum(endpoint.seen.values()) - 300
        assert refused < 300
        endpoint.most_active = 0
        await asyncio.gather(*(model.complete(ASK) for _ in range(100)))
        assert endpoint.most_active <= 24
        await model.aclose()


async def test_concurrency_grows_while_all_goes_well() -> None:
    async with faults.serving(faults.good(after_s=0.01)) as endpoint:
        model = open_model(endpoint.url, options=QUICK | {"concurrency": 2, "read_timeout_s": 10.0})
        await asyncio.gather(*(model.complete(ASK) for _ in range(300)))
        assert endpoint.most_active > 10
        await model.aclose()


async def test_closing_ends_requests_under_way_with_retry() -> None:
    async with faults.serving(faults.good(after_s=5.0)) as endpoint:
        model = open_model(endpoint.url, options=QUICK | {"read_timeout_s": 30.0, "concurrency": 4})
        tasks = [asyncio.create_task(model.complete(ASK)) for _ in range(10)]
        await asyncio.sleep(0.1)
        await model.aclose()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(isinstance(e, Retry) for e in ended)
        await _refuses(model)


async def test_cancelling_a_caller_is_a_cancellation_and_frees_its_place() -> None:
    async with faults.serving(faults.good(after_s=0.2)) as endpoint:
        model = open_model(endpoint.url, options=QUICK | {"concurrency": 1, "max_concurrency": 1})
        tasks = [asyncio.create_task(model.complete(ASK)) for _ in range(3)]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        tasks[1].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(e) for e in ended] == [asyncio.CancelledError, asyncio.CancelledError, Completion]
        await model.aclose()


async def test_token_ids_need_the_option_and_a_server_that_returns_them() -> None:
    request = ModelRequest(prompt_tokens=(1, 2, 3), sampling=suite.GREEDY)
    with pytest.raises(Reject, match="completions"):
        await ask(faults.good(), request=request)
    plain = {"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    with pytest.raises(SetupError, match="token ids"):
        await ask(faults.reply(plain), request=request, completions=True)


def test_error_codes_never_hold_sentences() -> None:
    assert error_codes(b'{"error": {"code": "how to do things", "type": "ok_type"}}') == ["ok_type"]
    assert error_codes(b"[" * 100_000) == []
    assert error_codes(b'{"error": "how to"}') == []


async def _refuses(model: TextModel) -> None:
    with pytest.raises(Retry, match="engine_closed"):
        await model.complete(ASK)
