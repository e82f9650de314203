"""`tracemend outcomes` and `tracemend letters`: how units of a cluster's run ended, and which messages were given up.

Both name records, never text: `tracemend trace` takes the ids that they print.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice

from tracemend.cli.showing import inert, print_json, table, wide_console
from tracemend.cli.submitting import cluster
from tracemend.client.values import OutcomeRow
from tracemend.kit.errors import SetupError
from tracemend.records import OutcomeState


def outcomes(
    run: str, *, to: str, arm: str, states: Iterable[str], reason: str, prompt: str, limit: int, as_json: bool
) -> None:
    """Print the units that fit, at most `limit`; as JSON, one line for each."""
    wanted = [_state(word) for word in states]
    with cluster(to) as client:
        found = client.run(run).outcomes(arm=arm, states=wanted, reason=reason, prompt=prompt)
        if as_json:
            for row in islice(found, limit):
                print_json(row)
            return
        rows = list(islice(found, limit + 1))
    _show(rows[:limit])
    if len(rows) > limit:
        print(f"There are more: --limit N shows more than {limit:,}.")


def letters(
    run: str, *, to: str, topic: str, stage: str, reason: str, redrives: bool, dry_run: bool, as_json: bool
) -> None:
    """Print the dead letters that fit, or have them delivered again."""
    with cluster(to) as client:
        its = client.run(run)
        if redrives or dry_run:
            matched, published = its.redrive_dead_letters(topic=topic, stage=stage, reason=reason, dry_run=dry_run)
            if as_json:
                print_json({"num_matched": matched, "num_published": published})
            else:
                print(f"{matched:,} dead letters fit; {published:,} are published again")
            return
        found = list(its.dead_letters(topic=topic, stage=stage, reason=reason))
    if as_json:
        print_json(found)
        return
    shown = table("buried", "stage", "reason", "record", "topic", "bytes", right=("bytes",))
    for letter in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.created_s))
        shown.add_row(when, letter.stage, inert(letter.reason), letter.record, letter.topic, f"{letter.num_bytes:,}")
    wide_console().print(shown if found else "No dead letters.")


def _show(rows: list[OutcomeRow]) -> None:
    shown = table("prompt", "arm", "sample", "variant", "ended as", "reason", right=("sample",))
    for row in rows:
        sample = str(row.sample) if row.sample >= 0 else ""
        shown.add_row(row.prompt, row.arm, sample, row.variant, row.state.value, inert(row.reason))
    wide_console().print(shown if rows else "No unit has ended so.")


def _state(word: str) -> OutcomeState:
    try:
        return OutcomeState(word)
    except ValueError:
        raise SetupError(f"no outcome '{word}'; known: {', '.join(OutcomeState)}") from None
