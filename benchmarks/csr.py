"""Continuation safety ratios on the proving ground: do cues stand where traces turn, and what do triggers do?

    python -m benchmarks.csr --seed 0 --out runs/csr

The set-up follows methods.md §7: prompts whose samples are judged both safe and unsafe, continuations at every step, an
exact judge and an exact detector. The base model is trained on first use and cached. Started again, it goes on.

What is planted and what is not: the grammar plants that a plan follows most cues and a decision most triggers; where
the model's own continuations settle, and how closely that follows the sentence, is what the model has learnt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

from tracemend.cli.console import observer_for
from tracemend.cli.running import cache_folder, quiet_libraries
from tracemend.cli.showing import plain
from tracemend.embedded.csr import Analysis, Asked, analyse
from tracemend.embedded.pipeline import run_pipeline
from tracemend.embedded.progress import Observer
from tracemend.embedded.runfile import RunFile
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.proving.automata import read
from tracemend.proving.grammar import Kind
from tracemend.redaction import Text

_SAMPLES = 8
_EXACT = {"name": "proving_exact"}


def run_file(*, seed: int, num_prompts: int) -> RunFile:
    """K samples of each of `num_prompts` harmful prompts by the base model of `seed`, judged and looked through."""
    return RunFile.model_validate(
        {
            "name": "csr",
            "seed": seed,
            "prompts": [{"source": "proving", "subset": "harmful_train", "limit": num_prompts, "seed": seed}],
            "ingestion": {"filters": {"near_duplicates": False, "decontamination": False}},
            "target": {
                "model": "proving:base",
                "engine": "transformers",
                "engine_options": {"num_threads": 1},  # the same floats everywhere, and no waiting on busy cores
                "samples": _SAMPLES,
                "sampling": {"temperature": 0.8, "top_p": 1.0, "max_new_tokens": 160},
            },
            "judge": {
                "harm": _EXACT, "refusal": _EXACT, "correctness": _EXACT, "detector": {"name": "proving_cue"},
            },
            "arms": {"sampled": {"correct": {"strategy": "filter"}}},
        }
    )  # fmt: skip


def first_trigger(steps: Sequence[Text]) -> int:
    """The first safety trigger of a trace that has not planned harm before it, which nothing takes back; else 0."""
    for number, step in enumerate(steps, start=1):
        kinds = {sentence.kind for sentence in read(step.reveal()) if sentence}
        if kinds & {Kind.PLAN, Kind.COMPLY}:
            return 0
        if Kind.TRIGGER in kinds:
            return number
    return 0


def measure(
    folder: Path,
    *,
    cache: Path,
    observer: Observer,
    seed: int = 0,
    num_prompts: int = 320,
    uncertain: int = 30,
    per_side: int = 1,
    continuations: int = 32,
    every: str = "step",
) -> Analysis:
    """Sample in `folder`, choose `uncertain` prompts with mixed samples and measure `per_side` unsafe and safe traces
    of each."""
    asked = Asked(uncertain=uncertain, per_side=per_side)
    settings = ContinuationSettings.model_validate({"continuations": continuations, "every": every})

    async def work() -> Analysis:
        await run_pipeline(run_file(seed=seed, num_prompts=num_prompts), folder, cache=cache, observer=observer)
        return await analyse(folder, asked, settings, cache=cache, observer=observer, find_trigger=first_trigger)

    return asyncio.run(work())


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    observer = observer_for(as_json=False)
    started = time.monotonic()
    found = measure(
        arguments.out,
        cache=arguments.cache,
        observer=observer,
        seed=arguments.seed,
        num_prompts=arguments.prompts,
        uncertain=arguments.uncertain,
        per_side=arguments.per_side,
        continuations=arguments.continuations,
        every=arguments.every,
    )
    observer.close()
    cached = found.num_cached_tokens / max(1, found.num_prompt_tokens)
    figures = {
        "synthetic": True,
        "seed": arguments.seed,
        **plain(found.summary),
        "num_continuations": found.num_continuations,
        "num_new_tokens": found.num_new_tokens,
        "cached_prompt_share": round(cached, 3),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(figures, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.csr", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=320, help="harmful prompts to sample")
    parser.add_argument("--uncertain", type=int, default=30, help="prompts with mixed samples to take")
    parser.add_argument("--per-side", type=int, default=1, help="unsafe and safe traces of each")
    parser.add_argument("--continuations", type=int, default=32, help="samples at each place")
    parser.add_argument("--every", default="step", help="step or token")
    parser.add_argument("--out", type=Path, default=Path("runs/csr"), help="folder of the run")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="folder of the base models")
    return parser.parse_args()


if __name__ == "__main__":
    main()
