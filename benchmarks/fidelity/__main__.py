"""`python -m benchmarks.fidelity --seeds 5`: run the claims over base seeds and write their pages into docs/.

Interrupted, it goes on where it stopped; a changed world or recipe starts in folders of its own. Exits with 1 if a
claim with a criterion is not met and no reason for that is known: the pages are written all the same.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fidelity import interventions, ipo_page, page
from benchmarks.fidelity.claim import Claim
from benchmarks.fidelity.claims import COMPARISON
from benchmarks.fidelity.ipo_claims import CLAIMS
from benchmarks.fidelity.runs import comparison, factors, run_seed

from tracemend.cli.console import observer_for
from tracemend.cli.running import cache_folder, quiet_libraries
from tracemend.embedded.progress import Observer

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One page: how a seed is run, and what is written of the seeds."""

    file: str
    digests: Callable[..., dict[str, str]]
    run: Callable[[int, Path, argparse.Namespace, Observer], Any]
    render: Callable[..., str]
    missed: Callable[[Sequence[Any]], list[str]]
    """Seeds → what is claimed and not met, reasons unknown."""


def _unsafechain(seed: int, folder: Path, asked: argparse.Namespace, observer: Observer) -> page.Seed:
    made = {"comparison": comparison, "factors": factors}
    return page.Seed(
        **{
            name: run_seed(
                recipe(seed=seed, num_prompts=asked.prompts), folder / name, cache=asked.cache, observer=observer
            )
            for name, recipe in made.items()
        }
    )


def _ipo(seed: int, folder: Path, asked: argparse.Namespace, observer: Observer) -> interventions.Interventions:
    return interventions.run_seed(seed, folder, num_prompts=asked.prompts, cache=asked.cache, observer=observer)


def _missed(claims: Sequence[Claim[Any]], seeds: Sequence[Any]) -> list[str]:
    return [claim.says for claim in claims if claim.holds(seeds) is False and not claim.not_shown]


CHAPTERS = {
    "unsafechain": Chapter(
        file="fidelity.md",
        digests=page.digests,
        run=_unsafechain,
        render=page.render,
        missed=lambda seeds: _missed(COMPARISON, [seed.comparison for seed in seeds]),
    ),
    "ipo": Chapter(
        file="fidelity-ipo.md",
        digests=ipo_page.digests,
        run=_ipo,
        render=ipo_page.render,
        missed=lambda seeds: _missed(CLAIMS, seeds),
    ),
}


def main() -> int:
    asked = _arguments()
    quiet_libraries()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)  # of what samples and what trains
    observer = observer_for(as_json=False)
    try:
        missed = [
            what
            for name in ([asked.only] if asked.only else CHAPTERS)
            for what in _write(CHAPTERS[name], asked, observer)
        ]
    finally:
        observer.close()
    print(
        "\n".join(f"Not met: {what}" for what in missed)
        or "Every claim with a criterion is met, or has a known reason not to be."
    )
    return 1 if missed else 0


def _write(chapter: Chapter, asked: argparse.Namespace, observer: Observer) -> list[str]:
    """Run the seeds and write the page; returns what is not met."""
    made = chapter.digests(num_prompts=asked.prompts)
    folder = asked.work / f"{made['world'][:8]}-{made['recipe'][:8]}"
    seeds = []
    for seed in range(asked.seeds) if asked.seed is None else [asked.seed]:
        print(f"{chapter.file}, base seed {seed}", flush=True)
        seeds.append(chapter.run(seed, folder / f"seed-{seed}", asked, observer))
    if asked.seed is not None:
        return []
    text = chapter.render(seeds, num_prompts=asked.prompts, today=datetime.datetime.now(datetime.UTC).date())
    (asked.out / chapter.file).write_text(text, encoding="utf-8")
    print(f"Page: {asked.out / chapter.file}")
    return chapter.missed(seeds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=list(CHAPTERS), help="one of the pages instead of all")
    parser.add_argument("--seeds", type=int, default=5, help="base seeds, from 0")
    parser.add_argument("--seed", type=int, help="run this seed alone and write no page: seeds may run side by side")
    parser.add_argument("--prompts", type=int, default=200, help="prompts per evaluation set")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pages")
    parser.add_argument("--work", type=Path, default=DOCS.parent / "runs" / "fidelity", help="folder of the runs")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="folder of the base models")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if asked.seeds < 2:
        parser.error("--seeds: intervals over seeds need at least 2")
    return asked


if __name__ == "__main__":
    sys.exit(main())
