"""Throws bytes at the methods of a server and looks at how each call ends; a seed repeats a bad end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import grpc
from grpc import aio
from tests.rpc_client import start

from tracemend.runtime.rpc.methods import Method

BUGS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
_CUT_OFF = "Internal error from Core"
"""What grpc.aio makes, in the client, of a write on a stream that the server has just ended: no server says it."""
_AT_ONCE = 32
_WORDS = ("runs/a", "runs/../b", "trainings/x", "-", "", "\0", "é" * 40, "A" * 300, '"etag"', "%s%n")


async def fuzz(
    channel: Any,
    methods: Sequence[Method],
    *,
    number: int,
    seed: int,
    valid: Mapping[str, Any] = MappingProxyType({}),
    **metadata: str,
) -> Counter[str]:
    """Send `number` calls: random bytes, messages of random fields, and messages with bytes changed.

    Where `valid` has a request for a method's name, messages are that one with some fields put at random, so that what
    lies behind validation is reached as well. Returns how often each status came back, by `Method: STATUS`. Fails with
    the seed where a status is a bug's.
    """
    counts: Counter[str] = Counter()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(index: int) -> None:
        rng = random.Random(f"{seed}/{index}")
        method = methods[index % len(methods)]
        base = valid.get(method.name)
        contents = [_content(rng, method, base) for _ in range(rng.randint(1, 4) if method.streams_requests else 1)]
        async with gate:
            started = start(channel, method, contents, within_s=rng.choice((0.2, 2.0, 5.0)), **metadata)
            code, details = await _end(started, method)
        counts[f"{method.name}: {code.name}"] += 1
        end = f"{code.name} ({details})"
        assert code not in BUGS, f"call {index} of seed {seed} to {method.full_name} ended in {end}"

    await asyncio.gather(*(one(index) for index in range(number)))
    return counts


async def _end(started: Any, method: Method) -> tuple[grpc.StatusCode, str]:
    try:
        if method.streams_responses:
            async for _ in started:
                pass
        else:
            await started
    except aio.AioRpcError as error:
        if error.details() == _CUT_OFF:
            return grpc.StatusCode.CANCELLED, _CUT_OFF
        return error.code(), error.details() or ""
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return grpc.StatusCode.CANCELLED, _CUT_OFF  # so grpc.aio ends a stream of requests that its deadline cuts off
    return grpc.StatusCode.OK, ""


def _content(rng: random.Random, method: Method, base: Any) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    message = method.request()
    if base is None:
        _fill(rng, message, depth=0)
    else:
        message.CopyFrom(base)
        for _ in range(rng.randrange(3)):
            _disturb(rng, message)
    content = bytearray(message.SerializeToString())
    for _ in range(rng.randint(1, 5) if kind == 1 and content else 0):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _disturb(rng: random.Random, message: Any) -> None:
    """Put one field at random, somewhere in the message's tree."""
    while True:
        field = rng.choice(message.DESCRIPTOR.fields)
        inner = getattr(message, field.name)
        if not field.message_type or field.message_type.GetOptions().map_entry:
            break
        children = list(inner) if field.is_repeated else [inner]
        if not children or rng.random() < 0.2:
            message.ClearField(field.name)
            return
        message = rng.choice(children)
    if field.message_type:
        return
    message.ClearField(field.name)
    if field.is_repeated:
        getattr(message, field.name).extend(_scalar(rng, field) for _ in range(rng.randrange(4)))
    else:
        setattr(message, field.name, _scalar(rng, field))


def _fill(rng: random.Random, message: Any, *, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4 or (field.message_type and depth > 4):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            continue
        if field.message_type:
            items = (
                [getattr(message, field.name)]
                if not field.is_repeated
                else [getattr(message, field.name).add() for _ in range(rng.randrange(3))]
            )
            for item in items:
                item.SetInParent()
                _fill(rng, item, depth=depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(_scalar(rng, field) for _ in range(rng.randrange(4)))
        else:
            setattr(message, field.name, _scalar(rng, field))


def _scalar(rng: random.Random, field: Any) -> Any:
    if field.enum_type:
        return rng.choice((0, 1, 2, 99))
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            return rng.randbytes(rng.randrange(30)) if field.type == field.TYPE_BYTES else rng.choice(_WORDS)
        case field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return rng.choice((0.0, -1.0, 1e300, float("nan"), float("inf"), 0.5))
        case field.CPPTYPE_INT32:
            return rng.choice((0, 1, -1, 2**31 - 1, -(2**31)))
        case field.CPPTYPE_INT64:
            return rng.choice((0, 1, -1, 2**63 - 1, -(2**63)))
    return rng.choice((0, 1, 2**32 - 1))
