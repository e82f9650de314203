"""`python -m benchmarks.fidelity --seeds 5`: run the claims over base seeds and write docs/fidelity.md.

Interrupted, it goes on where it stopped; a changed world or recipe starts in folders of its own. Exits with 1 if a
claim with a criterion is not met: the table is written all the same.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from benchmarks.fidelity.claims import COMPARISON
from benchmarks.fidelity.page import Seed, digests, render
from benchmarks.fidelity.runs import comparison, factors, run_seed

from tracemend.cli.console import observer_for
from tracemend.cli.running import cache_folder, quiet_libraries
from tracemend.embedded.progress import Observer

ROOT = Path(__file__).parents[2]


def main() -> int:
    arguments = _arguments()
    quiet_libraries()
    import torch

    torch.set_num_threads(arguments.threads)
    made = digests(num_prompts=arguments.prompts)
    folder = arguments.work / f"{made['world'][:8]}-{made['recipe'][:8]}"
    observer = observer_for(as_json=False)
    try:
        seeds = [_seed(seed, arguments, folder, observer) for seed in range(arguments.seeds)]
    finally:
        observer.close()
    text = render(seeds, num_prompts=arguments.prompts, today=datetime.datetime.now(datetime.UTC).date())
    arguments.out.write_text(text, encoding="utf-8")
    missed = [claim.says for claim in COMPARISON if claim.holds([seed.comparison for seed in seeds]) is False]
    print("\n".join([f"Table:   {arguments.out}", *(f"Not met: {what}" for what in missed)]))
    return 1 if missed else 0


def _seed(seed: int, arguments: argparse.Namespace, folder: Path, observer: Observer) -> Seed:
    print(f"base seed {seed}", flush=True)
    made = {"comparison": comparison, "factors": factors}
    return Seed(
        **{
            name: run_seed(
                recipe(seed=seed, num_prompts=arguments.prompts),
                folder / f"seed-{seed}" / name,
                cache=arguments.cache,
                observer=observer,
            )
            for name, recipe in made.items()
        }
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="base seeds, from 0")
    parser.add_argument("--prompts", type=int, default=200, help="prompts per evaluation set")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "fidelity.md")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "fidelity", help="folder of the runs")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="folder of the base models")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: intervals over seeds need at least 2")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
