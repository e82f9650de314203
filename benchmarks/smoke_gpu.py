"""Sixty-four prompts through the whole loop on a model of yours: does everything hold on real weights and a GPU?

    python -m benchmarks.smoke_gpu --model FOLDER [--out DIR] [--prompts FILE.jsonl] [--judge ADDRESS] [--dry-run]

Samples, judges, keeps, trains adapters for a few steps and measures before and after; then prints states and tokens
per second, and checks the run's conservation laws. Started again with the same command it goes on where it stopped.

Prompts are StrongREJECT's small set and XSTest's safe look-alikes where TRACEMEND_DATA names a folder that has them,
else `--prompts`: JSON Lines with `text` and `category` (harmful, benign, …), one line in four kept for measuring.
Refusals are told by strings; harm is judged by a rubric that is put to the model itself, or to `--judge`
(`openai:MODEL@URL`). A model that grades itself is no measurement: this is a test of the machinery. The adapters are
trained on the model's own benign answers, so that there are rows whatever the judge says. Exits with 3 where a law is
broken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tracemend.embedded.architectures import find_architecture
from tracemend.embedded.checking import check_run
from tracemend.embedded.laws import check_laws
from tracemend.embedded.looking import open_run
from tracemend.embedded.pipeline import Finished, run_pipeline
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import RunFile, load_run_file
from tracemend.kit.errors import SetupError, TracemendError

BROKEN, REFUSED = 3, 2


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        run_file = options.out / "run.yaml"
        run_file.write_text(yaml.safe_dump(compose(options), sort_keys=False), encoding="utf-8")
        settings = load_run_file(run_file)
        checks = check_run(settings)
        for check in checks:
            print(f"{'ok ' if check.holds else 'NOT'} {check.what}: {check.detail}", flush=True)
        if not all(check.holds for check in checks):
            return REFUSED
        return 0 if options.dry_run else asyncio.run(smoke(settings, options.out))
    except TracemendError as error:
        print(f"smoke_gpu: {error}", file=sys.stderr)
        return REFUSED


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/smoke-gpu"))
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--preset", choices=["auto", "1x24gb", "1x80gb", "8xh100"], default="auto")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--num-prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=2048)
    parser.add_argument("--judge", default="", help="address of the judge; left out, the model itself")
    parser.add_argument("--dry-run", action="store_true", help="compose and check the run file, then stop")
    return parser.parse_args()


# the run file -----------------------------------------------------------------------------------------


def compose(options: argparse.Namespace) -> dict[str, Any]:
    """The run file as a document: one arm, adapters, few steps."""
    prompts, benchmarks = sources(options)
    judge = {"engine": options.judge} if options.judge else own_judge(options)
    return {
        "name": "smoke-gpu",
        "models": {"judge": judge},
        "prompts": prompts,
        "target": {
            "model": str(options.model),
            "engine": options.engine,
            "engine_options": engine_options(options, share=0.9 if options.judge else 0.5, prompt_tokens=4096),
            "samples": options.samples,
            "sampling": {"max_new_tokens": options.max_new_tokens},
        },
        "judge": {"harm": {"name": "rubric", "model": "judge"}, "refusal": {"name": "refusal_strings"}},
        "arms": {"smoke": {"correct": {"strategy": "filter"}, "assemble": {"benign_share": 1.0}, "train": training()}},
        "evaluate": {"benchmarks": benchmarks},
        "resources": {"preset": options.preset},
    }


def training() -> dict[str, Any]:
    return {
        "learning_rate": 1e-4,
        "epochs": 1,
        "batch_size": 1,
        "gradient_accumulation": 4,
        "max_length": "auto",
        "lora": {"r": 16, "alpha": 32, "targets": ["q_proj", "v_proj"]},
        # A model's own words may spell its tags. Some odd rows must not end a smoke; how many there are is printed.
        "overrides": ["not_renderable", "parser_disagrees"],
    }


def own_judge(options: argparse.Namespace) -> dict[str, Any]:
    """A second engine on the same weights; it stays open while adapters are trained, hence its small share."""
    engine = engine_options(options, share=0.3, prompt_tokens=8192)
    return {"engine": f"{options.engine}:{options.model}", "options": engine}


def engine_options(options: argparse.Namespace, *, share: float, prompt_tokens: int) -> dict[str, Any]:
    """Room for a prompt and a response, not for the model's whole context: its cache might not fit beside another."""
    architecture = find_architecture(options.model)
    longest = options.max_new_tokens + prompt_tokens
    length = min(longest, architecture.context) if architecture else longest
    return {"max_model_len": length} | ({"memory_share": share} if options.engine == "vllm" else {})


def sources(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The prompts and the benchmarks, no text in both."""
    number = options.num_prompts
    if options.prompts is not None:
        return own_prompts(options.prompts, options.out, number)
    if not os.environ.get("TRACEMEND_DATA"):
        raise SetupError("no prompts: set TRACEMEND_DATA to a folder of prompt sets, or give --prompts FILE.jsonl")
    num_benign = max(1, number // 4)
    prompts = [preset("strongreject_small", number - num_benign), preset("xstest_safe", num_benign)]
    measured = {"simple_safety_tests": 8, "gsm8k": 8}
    return prompts, {name: {"prompts": preset(name, limit)} for name, limit in measured.items()}


def preset(name: str, limit: int) -> dict[str, Any]:
    return {"source": "preset", "name": name, "limit": max(1, limit)}


def own_prompts(path: Path, out: Path, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The user's file dealt into two: three lines of four for the run, the fourth for measuring."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"--prompts {path}: cannot be read as UTF-8 text: {error}") from None
    if len(lines) < 4:
        raise SetupError(f"--prompts {path}: {len(lines)} lines; give at least 4, some of them benign")
    parts = {
        "prompts": [line for at, line in enumerate(lines) if at % 4 != 3][:number],
        "measured": [line for at, line in enumerate(lines) if at % 4 == 3][: max(1, number // 4)],
    }
    for name, chosen in parts.items():
        (out / f"{name}.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    columns = {"text": "text", "category": "category"}
    items = {name: {"source": "jsonl", "path": str(out / f"{name}.jsonl"), "columns": columns.copy()} for name in parts}
    return [items["prompts"]], {"own": {"prompts": items["measured"]}}


# the run ----------------------------------------------------------------------------------------------


class Stopwatch(Silent):
    """Notes when phases begin, and says so."""

    def __init__(self) -> None:
        self.began_s: list[tuple[str, float]] = []

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        self.began_s.append((name, time.monotonic()))
        print(f"… {name}{f' ({total})' if total else ''}", flush=True)

    def say(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def seconds(self) -> dict[str, float]:
        """Phase to its seconds; the last one has ended now."""
        spent: dict[str, float] = {}
        for (name, began_s), (_, ended_s) in pairwise([*self.began_s, ("", time.monotonic())]):
            spent[name] = spent.get(name, 0.0) + ended_s - began_s
        return spent


async def smoke(settings: RunFile, out: Path) -> int:
    watch = Stopwatch()
    before = await spent_tokens(out)
    finished = await run_pipeline(settings, out, cache=out / "cache", observer=watch)
    seconds = watch.seconds()
    written = await spent_tokens(out) - before
    async with open_run(out) as opened:
        states = await opened.workspace.ledger.outcome_counts(opened.run)
        laws = await check_laws(opened.workspace, run=opened.run, plan=opened.plan)
    print("\nstates")
    for (arm, state, reason), number in sorted(states.items()):
        print(f"  {arm}: {state}{f' ({reason})' if reason else ''}: {number}")
    show_rates(seconds, written)
    show_training(finished)
    for law in laws:
        print(f"{'ok ' if law.holds else 'NOT'} {law.law} ({law.checked}) {law.detail}".rstrip())
    print(f"report: {finished.report}")
    return 0 if all(law.holds for law in laws) else BROKEN


async def spent_tokens(out: Path) -> Counter[str]:
    """Stage to the tokens that it has had written, in this process and earlier ones."""
    if not (out / "state" / "current").exists():
        return Counter()
    async with open_run(out) as opened:
        costs = await opened.workspace.ledger.costs(opened.run)
    return Counter({cost.stage: cost.num_new_tokens for cost in costs})


def show_rates(seconds: dict[str, float], written: Counter[str]) -> None:
    """Engines open and weights load inside the phases: the rate is what a user waits for, not the engine's best."""
    print("seconds")
    for name, spent_s in seconds.items():
        print(f"  {name}: {spent_s:.1f}")
    waited_s = sum(spent_s for name, spent_s in seconds.items() if name.startswith(("sample", "evaluate")))
    if not waited_s:
        print("everything was sampled and judged by an earlier process")
        return
    print("tokens written per second of sampling, judging and measuring, loading included")
    for stage, num_tokens in written.items():
        print(f"  {stage}: {num_tokens / waited_s:,.0f} ({num_tokens:,} in {waited_s:.1f} s)")


def show_training(finished: Finished) -> None:
    for arm, checkpoint in finished.checkpoints.items():
        metrics = checkpoint.metrics
        losses = f"{metrics['first_loss']:.3f} → {checkpoint.final_loss:.3f}"
        print(f"trained {arm}: {checkpoint.step} steps on {metrics['rows']:.0f} rows, loss {losses}")
        for name, number in metrics.items():
            if name.startswith("overridden/"):
                print(f"  rows that the fidelity gate objects to, {name.removeprefix('overridden/')}: {number:.0f}")


if __name__ == "__main__":
    sys.exit(main())
