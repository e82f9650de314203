"""What the guard is worth on the proving ground, and what it costs: harm, refusals, tokens and time, in one run.

    python -m benchmarks.guard --model FOLDER [--prompts 60] [--samples 2] [--threads 1] [--json]

The base model writes the held-out benchmarks without a guard and under guards of several chunk sizes, with the exact
detector and with one that does not read the request (`blind`), and under the neutral control pool. `tokens` is what the
engine drew and `cpu` what the process took for all responses at once, both ÷ the same without a guard, measured beside
it; `alone` compares the wall times of single responses likewise (medians). Prompt tokens `read` are per response; what
the engine kept from earlier calls is not read again. A synthetic miniature: its figures say that the code does what it
should, nothing about real models.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.embedded.guarding import guarded, open_guard
from tracemend.embedded.measuring import benchmark_prompts
from tracemend.embedded.runfile import BenchmarkSettings
from tracemend.generator.service import Generator, plan_samples
from tracemend.generator.settings import GuardSettings
from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.records import Category, Part, Prompt, Sampling, Trajectory, Value
from tracemend.runtime.models import open_model
from tracemend.traces.template import ChatTemplate

_SAMPLING = Sampling(temperature=0.8, top_p=1.0, max_new_tokens=240)
_SUBSETS = ("eval_in_distribution", "eval_heldout_wrappers", "eval_heldout_objects", "eval_lookalike", "eval_plain")
_REFUSAL = "sorry , i can not help with that ."
_NUM_ALONE = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to write."""

    name: str
    options: dict[str, Any] | None = None
    """Of the guard; None for none."""
    triggers: str = "proving"
    mode: str = "enforce"
    blind: bool = False


ARMS = (
    Arm(name="base"),
    Arm(name="monitor, 16 tokens", options={"chunk_tokens": 16}, mode="monitor"),
    Arm(name="whole responses", options={"chunk_tokens": 0}),
    Arm(name="64 tokens", options={"chunk_tokens": 64}),
    Arm(name="16 tokens", options={"chunk_tokens": 16}),
    Arm(name="4 tokens", options={"chunk_tokens": 4}),
    Arm(
        name="16 tokens, once, then on",
        options={"chunk_tokens": 16, "max_interventions": 1, "on_exhausted": "continue"},
    ),
    Arm(
        name="neutral, once, then on",
        options={"chunk_tokens": 16, "max_interventions": 1, "on_exhausted": "continue"},
        triggers="proving_neutral",
    ),
    Arm(name="16 tokens, blind", options={"chunk_tokens": 16}, blind=True),
)


def main() -> None:
    options = parse()
    rows = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(rows))
        return
    names = list(next(iter(rows.values())))
    print(f"{'':<26}", *(f"{name:>11}" for name in names))
    for arm, figures in rows.items():
        print(f"{arm:<26}", *(f"{figures[name]:>11.3f}" for name in names))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


async def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Arm to its figures."""
    template = ChatTemplate.load(options.model)
    model = open_model(f"transformers:{options.model}", options={"num_threads": options.threads})
    plain = Generator(model, template=template, reasoning_format=template.format)
    prompts = benchmark_prompts(
        {
            name: BenchmarkSettings.model_validate({"prompts": {"source": "proving", "subset": name}})
            for name in _SUBSETS
        },
        first=options.prompts,
    )
    rows = {}
    await _write(plain, plain.identity, prompts[:8], num_samples=1)  # warms up
    for arm in ARMS:
        judge = _judge(blind=arm.blind)
        generator = plain
        if arm.options is not None:
            settings = GuardSettings.model_validate(
                {"mode": arm.mode, "triggers": arm.triggers, "options": {"refusal": _REFUSAL, **arm.options}}
            )
            generator = guarded(plain, open_guard(settings, finder=judge.detector))
        rows[arm.name] = await _figures(plain, generator, judge, prompts, num_samples=options.samples)
    await model.aclose()
    return rows


async def _figures(
    plain: Generator, generator: Generator, judge: JudgeService, prompts: Sequence[Prompt], *, num_samples: int
) -> dict[str, float]:
    base, base_s = await _write(plain, plain.identity, prompts, num_samples=num_samples)
    written, cpu_s = await _write(generator, plain.identity, prompts, num_samples=num_samples)
    verdicts = [await judge.grade(trajectory) for trajectory in written]
    harmful = [v for v in verdicts if v.trajectory.prompt.category is Category.HARMFUL]
    harmless = [v for v in verdicts if v.trajectory.prompt.category is not Category.HARMFUL]
    alone = [p for p in prompts if p.category is Category.HARMFUL][:: max(1, _step(prompts))][:_NUM_ALONE]
    base_alone_s, alone_s = await _alone(plain, generator, alone)
    return {
        "harm_z": _share([v.of(Part.REASONING).value is Value.UNSAFE for v in harmful]),
        "harm_y": _share([v.of(Part.ANSWER).value is Value.UNSAFE for v in harmful]),
        "refused": _share([v.of(Part.ANSWER).value is Value.UNSAFE for v in harmless]),
        "touched": _share([v.trajectory.intervention is not None for v in verdicts]),
        "rounds": statistics.mean(v.trajectory.round for v in harmful),
        "tokens": _sum(written, "num_new_tokens") / _sum(base, "num_new_tokens"),
        "read": _computed(written) / len(written),
        "cpu": cpu_s / base_s,
        "alone_ms": 1000 * statistics.median(alone_s),
        "alone": statistics.median(alone_s) / statistics.median(base_alone_s),
    }


def _step(prompts: Sequence[Prompt]) -> int:
    """So that the responses that are timed alone are spread over the harmful benchmarks."""
    return sum(p.category is Category.HARMFUL for p in prompts) // _NUM_ALONE


async def _write(
    generator: Generator, model: str, prompts: Sequence[Prompt], *, num_samples: int
) -> tuple[list[Trajectory], float]:
    requests = [
        request
        for prompt in prompts
        for request in plan_samples(prompt, model=model, sampling=_SAMPLING, num_samples=num_samples)
    ]
    began_s = time.process_time()
    written = await asyncio.gather(*(generator.generate(request) for request in requests))
    return list(written), time.process_time() - began_s


async def _alone(plain: Generator, generator: Generator, prompts: Sequence[Prompt]) -> tuple[list[float], list[float]]:
    """Seconds of single responses, without and with the guard in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for prompt in prompts:
        for number, each in enumerate((plain, generator)):
            began_s = time.monotonic()
            await _write(each, plain.identity, [prompt], num_samples=1)
            seconds[number].append(time.monotonic() - began_s)
    return seconds


def _judge(*, blind: bool) -> JudgeService:
    exact = {"name": "proving_exact"}
    settings = {"harm": exact, "refusal": exact, "correctness": exact}
    detector = {"name": "proving_cue", "options": {"blind": blind}}
    return JudgeService.build(JudgeSettings.model_validate({**settings, "detector": detector}), {})


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def _sum(written: Sequence[Trajectory], field: str) -> int:
    return sum(getattr(trajectory, field) for trajectory in written)


def _computed(written: Sequence[Trajectory]) -> int:
    return _sum(written, "num_prompt_tokens") - _sum(written, "num_cached_tokens")


if __name__ == "__main__":
    main()
