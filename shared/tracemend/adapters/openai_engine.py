"""The `openai:` engine: any endpoint that speaks OpenAI's chat completions, hosted or vLLM's own server.

Concurrency adapts to the endpoint (`pace`), transient failures are tried again here a bounded number of times and
then handed up as `Retry`, so that the bus delays the record instead of a worker sleeping on it. API keys come from
the environment alone. Neither errors nor logs hold text of a prompt or reply.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog

from tracemend.adapters.openai_replies import Filtered, check, completion_of
from tracemend.adapters.pace import Pace
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ids import digest_of
from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.records import Finish
from tracemend.redaction import Text

log = structlog.get_logger(__name__)

_MOST_REPLY_BYTES = 64 * 2**20
_FILTERED = Completion(text=Text(""), finish=Finish.FILTERED)


class OpenAiEngine:
    """A `TextModel` over the `model` of an endpoint."""

    def __init__(
        self, model: str, *, base_url: str, api_key_env: str = "", completions: bool = False, max_model_len: int = 0,
        concurrency: int = 16, max_concurrency: int = 256, max_attempts: int = 5, max_wait_s: float = 30.0,
        connect_timeout_s: float = 10.0, read_timeout_s: float = 600.0, max_tokens_field: str = "max_tokens",
        price_per_million_input: float = 0.0, price_per_million_output: float = 0.0, revision: str = "",
        send_seed: bool = True, extra_body: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Checks the settings; connects on the first request. Raises `SetupError`.

        `api_key_env` names the environment variable with the key. `completions`: `prompt_tokens` are sent to
        `/completions`, which must return token ids (vLLM's server does). `max_attempts` tries per request, waiting
        `max_wait_s` at most between two. `read_timeout_s` must cover the writing of a whole reply. Prices are money
        per million tokens. `revision` enters the identity where the model's name does not say which one it is.
        `max_tokens_field` is what the endpoint calls the longest response. `send_seed`: off for endpoints that refuse
        or break on a `seed` (vLLM 0.32 on a CPU does where it reads prompts in parts). `extra_body` is merged into
        every request.
        """
        if api_key_env and not _key_in(api_key_env):
            raise SetupError(f"the API key of model '{model}' is missing: set the environment variable {api_key_env}")
        self.identity = digest_of(["openai", model, revision, dict(extra_body or {})])
        self.capabilities = Capabilities(token_ids=completions, logprobs=True, max_model_len=max_model_len)
        self._model = model
        self._base_url = base_url.rstrip("/")
        self._api_key_env = api_key_env
        self._completions = completions
        self._pace = Pace(start=min(concurrency, max_concurrency), most=max_concurrency)
        self._max_attempts = max_attempts
        self._max_wait_s = max_wait_s
        self._timeouts_s = (connect_timeout_s, read_timeout_s)
        self._max_tokens_field = max_tokens_field
        self._prices = (price_per_million_input / 1e6, price_per_million_output / 1e6)
        self._send_seed = send_seed
        self._extra_body = dict(extra_body or {})
        self._session: Any = None
        self._going: set[asyncio.Task[Completion]] = set()
        self._closed = False
        self._is_told = False
        """Whether the log says of the present outage."""

    async def complete(self, request: ModelRequest) -> Completion:
        if self._closed:
            raise Retry("engine_closed")
        path, body = self._body(request)
        task = asyncio.create_task(self._fitted(path, body, request.seed))
        self._going.add(task)
        try:
            completion = await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._closed and not (current and current.cancelling()):
                raise Retry("engine_closed") from None
            raise
        finally:
            self._going.discard(task)
        return self._checked(completion, request)

    async def aclose(self) -> None:
        self._closed = True
        for task in list(self._going):
            task.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # requests ---------------------------------------------------------------------------------------

    def _body(self, request: ModelRequest) -> tuple[str, dict[str, Any]]:
        """Path and content of a request. Settings outside OpenAI's own interface are sent only when they are used."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model, "temperature": sampling.temperature, "top_p": sampling.top_p
        }  # fmt: skip
        body |= {"seed": request.seed % 2**63} if self._send_seed else {}
        if request.prompt_tokens:
            if not self._completions:
                raise Reject("no_token_ids", "this endpoint takes messages; the option `completions` allows token ids")
            path = "/completions"
            body |= {"prompt": list(request.prompt_tokens), "max_tokens": self._room(request)}
            body |= {"return_token_ids": True, "skip_special_tokens": False, "spaces_between_special_tokens": False}
            body |= {"logprobs": 0} if request.num_logprobs else {}
        elif request.messages:
            path = "/chat/completions"
            messages = [{name: str.__str__(value) for name, value in m.items()} for m in request.messages]
            body |= {"messages": messages, self._max_tokens_field: sampling.max_new_tokens}
            body |= {"return_token_ids": True} if self._completions else {}
            body |= {"logprobs": True} if request.num_logprobs else {}
        else:
            raise Reject("empty_prompt", "neither prompt_tokens nor messages")
        body |= {"stop": list(request.stop)} if request.stop else {}
        body |= {"top_k": sampling.top_k} if sampling.top_k else {}
        body |= {"repetition_penalty": sampling.repetition_penalty} if sampling.repetition_penalty != 1 else {}
        return path, body | self._extra_body

    def _room(self, request: ModelRequest) -> int:
        """`max_new_tokens`, or less where the context length is known and leaves less."""
        asked = request.sampling.max_new_tokens
        longest = self.capabilities.max_model_len
        if longest and len(request.prompt_tokens) >= longest:
            raise Reject("prompt_too_long", f"{len(request.prompt_tokens)} tokens; the model holds {longest}")
        return min(asked, longest - len(request.prompt_tokens)) if longest else asked

    async def _fitted(self, path: str, body: dict[str, Any], seed: int) -> Completion:
        """Where prompt and `max_new_tokens` together pass the context, ask again without a maximum: the server then
        writes as far as the room goes, which is less than was asked for. A prompt alone too long fails again."""
        try:
            return await self._attempts(path, json.dumps(body).encode(), seed)
        except Reject as error:
            if error.reason != "prompt_too_long":
                raise
        unbounded = {name: value for name, value in body.items() if name not in ("max_tokens", self._max_tokens_field)}
        if "prompt" in body:  # plain completions have a small default maximum of their own
            unbounded["max_tokens"] = None
        return await self._attempts(path, json.dumps(unbounded).encode(), seed)

    async def _attempts(self, path: str, body: bytes, seed: int) -> Completion:
        """Try until it works, cannot work, or has failed `max_attempts` times; waits grow, jittered by `seed`."""
        chance = random.Random(seed)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(path, body)
            except Filtered:
                return _FILTERED
            except Retry as error:
                wait_s = max(error.after_s, 0.5 * 2 ** (attempt - 1) * chance.uniform(0.5, 1.0))
                if attempt >= self._max_attempts or wait_s > self._max_wait_s:
                    self._tell(error.reason)
                    raise Retry(error.reason, after_s=wait_s) from None
                await asyncio.sleep(wait_s)

    async def _attempt(self, path: str, body: bytes) -> Completion:
        era = await self._pace.enter()
        started = time.monotonic()
        pushed_back: bool | None = None
        try:
            status, headers, content = await self._post(path, body)
            pushed_back = False
            completion = completion_of(check(status, headers, content))
            self._is_told = False
            money = completion.num_prompt_tokens * self._prices[0] + completion.num_new_tokens * self._prices[1]
            return dataclasses.replace(completion, seconds=time.monotonic() - started, money=money)
        except Retry as error:
            pushed_back = error.reason != "malformed_reply"
            raise
        finally:
            self._pace.leave(era, pushed_back=pushed_back)

    async def _post(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """One HTTP exchange; `Retry` where it fails. A redirect is not followed: it would carry the prompt away."""
        import aiohttp

        try:
            async with self._open().post(self._base_url + path, data=body, allow_redirects=False) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > _MOST_REPLY_BYTES:
                        raise Retry("malformed_reply", after_s=0.0)
                return response.status, response.headers, bytes(content)
        except TimeoutError:
            raise Retry("timeout", after_s=0.0) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise SetupError(
                f"no trusted connection to {error.host}: name its authority's file in SSL_CERT_FILE, or correct the "
                "model's address"
            ) from None
        except aiohttp.ClientError as error:
            raise Retry("connection", after_s=0.0) from _Cause(type(error).__name__)

    def _open(self) -> Any:
        """The session, made inside the event loop on first use."""
        import aiohttp

        if self._session is None:
            headers = {"Content-Type": "application/json"}
            if self._api_key_env:
                headers["Authorization"] = f"Bearer {_key_in(self._api_key_env)}"
            connect_s, read_s = self._timeouts_s
            timeout = aiohttp.ClientTimeout(total=connect_s + read_s, sock_connect=connect_s)
            connector = aiohttp.TCPConnector(limit=0)  # `Pace` limits
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)
        return self._session

    def _tell(self, reason: str) -> None:
        """Name the endpoint that fails in the log, once until it works again."""
        if not self._is_told:
            address = urlsplit(self._base_url)
            where = f"{address.scheme}://{address.hostname}{f':{address.port}' if address.port else ''}{address.path}"
            log.warning("endpoint does not serve: is it up, and its address right?", at=where, reason=reason)
        self._is_told = True

    def _checked(self, completion: Completion, request: ModelRequest) -> Completion:
        """An endpoint that was to return token ids must have."""
        if request.prompt_tokens and completion.num_new_tokens and not completion.token_ids:
            raise SetupError("the endpoint returned no token ids: the option `completions` needs vLLM's server 0.10 on")
        return completion


def _key_in(name: str) -> str:
    """The key in a variable, without the line's end that a file or a secret leaves behind it."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and (key.isprintable() or not key)):
        raise SetupError(f"the variable {name} holds what no HTTP header takes: set it to the key alone")
    return key


class _Cause(Exception):
    """Kind of a connection failure."""
