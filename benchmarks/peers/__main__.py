"""Generation alone, one call per row, start-up included, beside distilabel and Bespoke Curator over one endpoint.

    python -m benchmarks.peers [--rows 3000 5000] [--rounds 3] [--environments FOLDER]

The peers are installed from PyPI, in pinned versions, into virtual environments under `--environments` (a temporary
folder without it), made where they are not there. Each round runs every system once, in turning order, each in a fresh
process with a fresh cache, timed from the start of its process to its end; every row's answer must be in what it
writes. Prints rows per second, the ratios of each round, and what the endpoint gives to raw clients. Exits with 1 where
a goal is missed.

The peers are configured as their documentation allows: distilabel with batches of 256 rows instead of 50, Curator with
256 requests in flight and its limits per minute out of the way (by default they hold it to a few rows per second).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.peers.endpoint import answer_to, ceiling, serving

GOAL_RATIO = 8.0
GOAL_CEILING = 2.0
"""The endpoint's own rate over the fastest system's: below that, the endpoint is what is measured."""
_WARM_UP_ROWS = 300
_HERE = Path(__file__).parent
_ENVIRONMENT = {
    "OPENAI_API_KEY": "none",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TELEMETRY_ENABLED": "false",
    "POSTHOG_DISABLED": "1",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What is measured: an interpreter and a script with the options --url, --rows, --answers and --cache."""

    name: str
    requirements: tuple[str, ...] = ()
    script: tuple[str, ...]

    def installed(self, folder: Path) -> Path:
        """The interpreter that has it; made where it is not there."""
        if not self.requirements:
            return Path(sys.executable)
        home = folder / "-".join(self.requirements).replace("==", "-").replace("[", "-").replace("]", "")
        python = home / "bin" / "python"
        if not (home / "ready").exists():
            print(f"installing {', '.join(self.requirements)} into {home}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, *self.requirements], check=True)
            (home / "ready").touch()
        return python

    def measure(self, python: Path, url: str, prompts: list[str], *, bytecode: Path) -> float:
        """Rows per second of one run; a `RuntimeError` where it fails or leaves a row without its answer."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            rows, answers, log = folder / "rows.jsonl", folder / "answers.jsonl", folder / "log"
            rows.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
            places = {"--url": url, "--rows": rows, "--answers": answers, "--cache": folder / "cache"}
            command = [str(python), *self.script, *(str(part) for pair in places.items() for part in pair)]
            began = time.perf_counter()
            with log.open("w") as output:
                ended = subprocess.run(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(HOME=scratch, PYTHONPYCACHEPREFIX=str(bytecode)),
                    check=False,
                )
            took_s = time.perf_counter() - began
            if ended.returncode:
                raise RuntimeError(f"{self.name} ended with {ended.returncode}:\n{log.read_text()[-3000:]}")
            self._check(answers, prompts)
            return len(prompts) / took_s

    def _check(self, answers: Path, prompts: list[str]) -> None:
        with answers.open(encoding="utf-8") as file:
            found = [json.loads(line) for line in file]
        answered = {row["prompt"]: row["answer"] for row in found}
        missing = sum(answered.get(prompt) != answer_to(prompt) for prompt in prompts)
        if missing or len(found) != len(prompts):
            raise RuntimeError(f"{self.name}: {len(found)} answers to {len(prompts)} rows, {missing} missing or wrong")


def _environment(**more: str) -> dict[str, str]:
    """No telemetry, no look-ups over the network, and modules compiled once, by a run that does not count: installers
    compile what they install, and what runs without bytecode is Python's compiler measured."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **_ENVIRONMENT, **more}


SYSTEMS = (
    System(name="tracemend", script=("-m", "benchmarks.peers.with_tracemend")),
    System(
        name="distilabel",
        requirements=("distilabel[openai]==1.5.3", "requests==2.32.5"),
        script=(str(_HERE / "with_distilabel.py"),),
    ),
    System(
        name="curator",
        requirements=("bespokelabs-curator==0.1.31",),
        script=(str(_HERE / "with_curator.py"),),
    ),
)


def rows_of(number: int) -> list[str]:
    """Prompts of about 200 characters that differ in their number."""
    filler = " Say in a few plain sentences what it is for, who needs it, and what you would look at first." * 2
    return [f"Describe item number {n}.{filler}" for n in range(number)]


def compare(number: int, *, rounds: int, url: str, pythons: dict[str, Path], clients: int, bytecode: Path) -> bool:
    """Measure and print `rounds` rounds over `number` rows; whether every goal was met."""
    prompts = rows_of(number)
    rates: dict[str, list[float]] = {system.name: [] for system in SYSTEMS}
    ceilings = []
    for turn in range(rounds):
        ceilings.append(ceiling(url, prompts, clients=clients))
        for place in range(len(SYSTEMS)):
            system = SYSTEMS[(turn + place) % len(SYSTEMS)]
            rates[system.name].append(system.measure(pythons[system.name], url, prompts, bytecode=bytecode))
            print(f"  round {turn + 1}, {system.name}: {rates[system.name][-1]:,.0f} rows/s", flush=True)
    return _tell(number, rates, ceilings)


def _tell(number: int, rates: dict[str, list[float]], ceilings: list[float]) -> bool:
    ours = rates["tracemend"]
    print(f"{number:,} rows")
    for name, found in rates.items():
        print(f"  {name}: {median(found):,.1f} rows/s  ({', '.join(f'{rate:,.1f}' for rate in found)})")
    met = True
    for name in (name for name in rates if name != "tracemend"):
        ratios = [mine / theirs for mine, theirs in zip(ours, rates[name], strict=True)]
        print(f"  tracemend / {name}: {median(ratios):.1f}  ({', '.join(f'{ratio:.1f}' for ratio in ratios)})")
        met &= median(ratios) >= GOAL_RATIO
    headroom = median(ceilings) / median(ours)
    rounds = ", ".join(f"{rate:,.0f}" for rate in ceilings)
    print(f"  endpoint, raw clients: {median(ceilings):,.0f} requests/s  ({rounds}), {headroom:.1f} times tracemend's")
    return met and headroom >= GOAL_CEILING


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[3000, 5000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environments", type=Path, help="where the peers are installed, and kept")
    parser.add_argument("--servers", type=int, default=2, help="processes of the endpoint")
    options = parser.parse_args()
    temporary = None if options.environments else tempfile.mkdtemp(prefix="peers-")
    folder = Path(temporary or options.environments).absolute()
    try:
        pythons = {system.name: system.installed(folder) for system in SYSTEMS}
        pins = ", ".join(pin for system in SYSTEMS for pin in system.requirements)
        print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}; {pins}")
        with serving(options.servers) as url, tempfile.TemporaryDirectory() as bytecode:
            for system in SYSTEMS:
                system.measure(pythons[system.name], url, rows_of(_WARM_UP_ROWS), bytecode=Path(bytecode))
            met = [
                compare(
                    number,
                    rounds=options.rounds,
                    url=url,
                    pythons=pythons,
                    clients=options.servers,
                    bytecode=Path(bytecode),
                )
                for number in options.rows
            ]
    finally:
        if temporary:
            shutil.rmtree(temporary)
    if not all(met):
        sys.exit(
            f"missed: {GOAL_RATIO:g} times each peer, over an endpoint of at least {GOAL_CEILING:g} times our rate"
        )


if __name__ == "__main__":
    main()
