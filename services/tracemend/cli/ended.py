"""`tracemend outcomes` and `tracemend letters`: how units of a cluster's run ended, and which messages were given up.

Both name records, never text: `tracemend trace` takes the ids that they print.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
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


def deliver_again(
    run: str, which: Mapping[str, str], *, to: str, most: int, per_s: float, dry_run: bool, as_json: bool
) -> None:
    """Have the dead letters delivered again that fit `which` (topic, stage and reason)."""
    with cluster(to) as client:
        matched, published = client.run(run).redrive_dead_letters(
            **which, max_messages=most, rate_per_s=per_s, dry_run=dry_run
        )
    if as_json:
        print_json({"num_matched": matched, "num_published": published})
    else:
        print(f"{matched:,} dead letters fit; {published:,} are published again")


def list_letters(run: str, which: Mapping[str, str], *, to: str, as_json: bool) -> None:
    """Print the dead letters that fit."""
    with cluster(to) as client:
        found = list(client.run(run).dead_letters(**which))
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
