"""What keeping keys and values of finished responses is worth to forks, on the transformers engine.

    python -m benchmarks.forks --model FOLDER [--prompts 96] [--rounds 5] [--threads 1] [--json]

Two engines on one model answer the same requests in turn (ABBA): one keeps what it has written, the other reads every
request from its first token. A round is a run of `intervene` in small: fresh samples, a fork of each from about half
its response with a few new tokens behind the cut, then several continuations of each fork's prefix. Prompts are the
proving ground's. `cpu` is the ratio of the process's CPU seconds, without keeping ÷ with; `wall` the same by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracemend.adapters.transformers_engine import TransformersEngine
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.proving.splits import SUBSETS
from tracemend.proving.world import build_world
from tracemend.records import Sampling
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate

_SAMPLING = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=240)
_TRIGGER_TOKENS = 12
_PART_S = ("fresh", "forks", "continuations")


def main() -> None:
    options = parse()
    figures = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(figures))
        return
    for part, values in figures.items():
        print(f"{part:<14}", "  ".join(f"{name} {value:,.3f}" for name, value in values.items()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--continuations", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


async def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By part of a round: the ratios' medians, seconds with keeping, and the share of prompt tokens that were kept."""
    engines = {kept_mb: _engine(options, kept_mb=kept_mb) for kept_mb in (0, 256)}
    prompts = _prompts(options.model, options.prompts * (options.rounds + 1))
    rounds: dict[int, list[dict[str, Any]]] = {kept_mb: [] for kept_mb in engines}
    for number in range(options.rounds + 1):
        asked = prompts[number :: options.rounds + 1]  # no prompt comes twice: fresh samples find nothing kept
        for kept_mb in list(engines) if number % 2 else list(reversed(engines)):
            done = await _round(engines[kept_mb], asked, seed=1000 * number, num=options.continuations)
            if number:  # the first warms up
                rounds[kept_mb].append(done)
    for engine in engines.values():
        await engine.aclose()
    return {
        part: _figures([each[part] for each in rounds[0]], [each[part] for each in rounds[256]]) for part in _PART_S
    }


def _engine(options: argparse.Namespace, *, kept_mb: int) -> TransformersEngine:
    return TransformersEngine(
        options.model, num_threads=options.threads, max_batch=options.max_batch, kept_mb=kept_mb, device="cpu"
    )


def _prompts(model: Path, num: int) -> list[tuple[int, ...]]:
    template = ChatTemplate.load(model)
    asks = SUBSETS["harmful_train"].prompts(build_world(), seed=0)
    if len(asks) < num:
        raise SystemExit(f"the proving ground has {len(asks)} such prompts, not {num}: ask for fewer or fewer rounds")
    return [template.prompt_tokens(Text(ask.text())) for ask in asks[:num]]


async def _round(
    engine: TransformersEngine, prompts: Sequence[tuple[int, ...]], *, seed: int, num: int
) -> dict[str, Any]:
    fresh = [ModelRequest(prompt_tokens=p, sampling=_SAMPLING, seed=seed + i) for i, p in enumerate(prompts)]
    written, fresh_part = await _timed(engine, fresh)
    forks = [
        replace(request, prompt_tokens=request.prompt_tokens + head + _trigger(head), seed=request.seed + 7)
        for request, done in zip(fresh, written, strict=True)
        for head in [done.token_ids[: len(done.token_ids) // 2]]
    ]
    _, fork_part = await _timed(engine, forks)
    again = [replace(fork, seed=fork.seed + 50 + k) for fork in forks for k in range(num)]
    _, again_part = await _timed(engine, again)
    return dict(zip(_PART_S, (fresh_part, fork_part, again_part), strict=True))


def _trigger(head: Sequence[int]) -> tuple[int, ...]:
    """Tokens that the model may not have written here."""
    return tuple(reversed(head[-_TRIGGER_TOKENS:]))


async def _timed(engine: TransformersEngine, requests: Sequence[ModelRequest]) -> tuple[list[Completion], Any]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    done = await asyncio.gather(*map(engine.complete, requests))
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return done, {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "num_prompt_tokens": sum(each.num_prompt_tokens for each in done),
        "num_cached_tokens": sum(each.num_cached_tokens for each in done),
        "num_new_tokens": sum(each.num_new_tokens for each in done),
    }


def _figures(without: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]]) -> dict[str, float]:
    def ratio(name: str) -> float:
        return float(statistics.median(one[name] / other[name] for one, other in zip(without, kept, strict=True)))

    def mean(name: str) -> float:
        return float(statistics.mean(each[name] for each in kept))

    return {
        "cpu": ratio("cpu_s"),
        "wall": ratio("wall_s"),
        "kept_cpu_s": mean("cpu_s"),
        "prompt_tokens": mean("num_prompt_tokens"),
        "new_tokens": mean("num_new_tokens"),
        "cached_share": mean("num_cached_tokens") / mean("num_prompt_tokens"),
        "cached_share_without": sum(e["num_cached_tokens"] for e in without)
        / sum(e["num_prompt_tokens"] for e in without),
    }


if __name__ == "__main__":
    main()
