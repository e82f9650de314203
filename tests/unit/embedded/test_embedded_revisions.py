"""Doing a phase again repeats it and what follows from it, keeps what comes before, and is remembered."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import run_small

from tracemend.embedded.revisions import ask_again, read_revisions
from tracemend.embedded.workspace import current_run
from tracemend.kit.errors import SetupError


def work(folder: Path) -> Counter[str]:
    """Finished work keys by kind: request (a sample), judge, rewrite (a teacher's text)."""
    with closing(sqlite3.connect(folder / "state" / "ledger.db")) as connection:
        return Counter(key.split("_")[0] for (key,) in connection.execute("SELECT key FROM work"))


AGAIN = {"sample": {"request", "judge", "rewrite"}, "judge": {"judge", "rewrite"}, "correct": {"judge", "rewrite"}}
"""Phase to the kinds of work that it repeats; a text that is written anew is judged anew."""


@pytest.mark.parametrize("phase", AGAIN)
def test_a_phase_done_again_repeats_what_follows_and_nothing_before(tmp_path: Path, phase: str) -> None:
    first = run_small(tmp_path).run
    before = work(tmp_path)
    second = run_small(tmp_path, again=phase).run
    after = work(tmp_path)
    assert second != first
    assert {kind for kind in after if after[kind] > before[kind]} == AGAIN[phase]

    assert run_small(tmp_path).run == second, "the command without --from goes on with the new revision"
    assert work(tmp_path) == after
    assert current_run(tmp_path) == second


def test_rewriting_anew_judges_only_the_new_texts(tmp_path: Path) -> None:
    run_small(tmp_path)
    before = work(tmp_path)
    run_small(tmp_path, again="correct")
    after = work(tmp_path)
    assert after["judge"] - before["judge"] == after["rewrite"] - before["rewrite"] == before["rewrite"]


def test_a_limit_makes_another_run_of_fewer_prompts(tmp_path: Path) -> None:
    whole = run_small(tmp_path).run
    few = run_small(tmp_path, limit=3).run
    assert few != whole
    with closing(sqlite3.connect(tmp_path / "state" / "ledger.db")) as connection:
        admitted = dict(connection.execute("SELECT run, num_admitted FROM runs"))
        ((measured,),) = connection.execute(
            "SELECT count(*) FROM phases WHERE run = ? AND name = 'evaluate:base'", [few]
        )
    assert admitted == {whole: 50, few: 6}
    assert measured == 1


def test_an_unknown_phase_and_damaged_counts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(SetupError, match="did you mean 'judge'"):
        ask_again(tmp_path, "jugde")
    (tmp_path / "state" / "revisions.json").write_text("[")
    with pytest.raises(SetupError, match="damaged"):
        read_revisions(tmp_path)
