"""What the loop around the models costs, in five measurements.

    python -m benchmarks.loop [units] [engines] [memory] [resume] [help] [--json FILE] [--quick]

    units    trajectories and units per second with an engine that costs nothing, and where the CPU time goes
    engines  whole loop ÷ bare engine, tokens per second, on the same prompts in one run (goal: 0.95 or more)
    memory   resident memory over 200,000 prompts, and its slope
    resume   from opening a sealed run of 200,000 prompts to its first unfinished one
    help     `tracemend --help` (goal: under 0.3 s)

Without names it takes all of them. Every goal that is missed is said, and the exit code is 1. Ratios and slopes hold
on any machine; absolute figures are the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import engine_share, null_loop, start_up

Figures: TypeAlias = dict[str, Any]

GOAL_SHARE = 0.95
GOAL_HELP_S = 0.3
GOAL_SLOPE_BYTES = 64.0
"""Per prompt, once caches are full: what a run must not keep of a finished prompt is thousands of bytes."""
CACHES_FULL_AFTER = 100_000
"""Prompts in a run of which the second half shows the slope; in a shorter one the caches still fill."""


def main() -> None:
    options = parse()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    results: dict[str, Figures] = {}
    for name in options.names or list(MEASUREMENTS):
        results[name] = MEASUREMENTS[name](options)
        show(name, results[name])
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    missed = missed_goals(results)
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    raise SystemExit(bool(missed))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="a tenth of the prompts, one round")
    parser.add_argument("--engines", nargs="+", default=["transformers", "vllm"])
    parser.add_argument("--prompts", type=int, default=5000, help="of `units`")
    parser.add_argument("--many-prompts", type=int, default=200_000, help="of `memory` and `resume`")
    parser.add_argument("--rounds", type=int, default=4, help="of `engines`: loop rounds, each between two bare ones")
    parser.add_argument("--engine-prompts", type=int, default=192, help="of `engines`, two samples each")
    parser.add_argument("--mean-length", type=int, default=48, help="of `engines`: new tokens of a response")
    parser.add_argument("--threads", type=int, default=1, help="of the transformers engine")
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.many_prompts, options.rounds = options.prompts // 10, options.many_prompts // 10, 1
    return options


def _units(options: argparse.Namespace) -> Figures:
    return null_loop.measure_units(options.prompts)


def _engines(options: argparse.Namespace) -> Figures:
    return {
        engine: engine_share.measure_share(
            engine,
            threads=options.threads,
            rounds=options.rounds,
            num_prompts=options.engine_prompts,
            mean_length=options.mean_length,
        )
        for engine in options.engines
    }


def _memory(options: argparse.Namespace) -> Figures:
    return null_loop.measure_memory(options.many_prompts)


def _resume(options: argparse.Namespace) -> Figures:
    return null_loop.measure_resume(options.many_prompts)


def _help(options: argparse.Namespace) -> Figures:
    return start_up.measure_help(rounds=3 if options.quick else 10)


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "units": _units,
    "engines": _engines,
    "memory": _memory,
    "resume": _resume,
    "help": _help,
}


def missed_goals(results: dict[str, Figures]) -> list[str]:
    """One line for each figure that is not what it should be."""
    missed = []
    for engine, figures in results.get("engines", {}).items():
        if not figures["is_slow_enough"]:
            missed.append(
                f"engines: {engine} takes {figures['engine_s_per_trajectory']:.3f} s per trajectory, too fast"
            )
        if figures["ratio"] < GOAL_SHARE:
            missed.append(f"engines: the loop reaches {figures['ratio']:.3f} of bare {engine}, not {GOAL_SHARE}")
    memory = results.get("memory", {})
    slope = memory.get("slope_bytes_per_prompt", 0.0)
    if slope > GOAL_SLOPE_BYTES and memory["num_prompts"] >= CACHES_FULL_AFTER:
        missed.append(f"memory: grows by {slope:.0f} bytes per prompt, not at most {GOAL_SLOPE_BYTES:.0f}")
    help_s = results.get("help", {}).get("help_s", 0.0)
    if help_s > GOAL_HELP_S:
        missed.append(f"help: takes {help_s:.2f} s, not at most {GOAL_HELP_S} s")
    return missed


def show(name: str, figures: Figures, indent: str = "") -> None:
    """One figure per line, nested ones indented."""
    print(f"{indent}{name}")
    for key, value in figures.items():
        if isinstance(value, dict):
            show(key, value, f"{indent}  ")
        else:
            print(f"{indent}  {key:<34} {_shown(value):>14}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
