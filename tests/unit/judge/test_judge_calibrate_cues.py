from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tracemend.judge.calibrate import wilson
from tracemend.judge.calibrate_cues import CueCalibration, calibrate_cues, read_cue_labels
from tracemend.kit.errors import SetupError
from tracemend.records import Cue, Prompt
from tracemend.redaction import Text

TRACE = "one . two . three . four . five ."


class Known:
    """A finder that says what a table holds for the prompt."""

    identity = "known:0"

    def __init__(self, steps: Mapping[str, int]) -> None:
        self._steps = steps

    async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
        step = self._steps[prompt.text.reveal()]
        return Cue(detector=self.identity, step=step, labels=("unparsed",) if step < 0 else ())


def written(folder: Path, *rows: object, name: str = "labels.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def measured(folder: Path, *pairs: tuple[int, int]) -> CueCalibration:
    """The calibration over rows (label, what the detector says)."""
    rows = [{"prompt": f"p{i}", "reasoning": TRACE, "step": label} for i, (label, _) in enumerate(pairs)]
    finder = Known({f"p{i}": said for i, (_, said) in enumerate(pairs)})
    return asyncio.run(calibrate_cues(finder, read_cue_labels(written(folder, *rows))))


def test_every_figure_counts_the_rows_that_it_says(tmp_path: Path) -> None:
    found = measured(tmp_path, (3, 3), (3, 4), (2, 5), (0, 0), (0, 2), (4, 0), (2, -1), (0, -1))
    assert (found.num_rows, found.num_unknown, found.unknown_labels) == (8, 2, {"unparsed": 2})
    assert found.agreement == wilson(2, 6)
    assert found.agreement_of_all == wilson(2, 8)
    assert found.within_one == wilson(2, 3)
    assert found.found == wilson(3, 4)
    assert found.no_cue == wilson(1, 2)


def test_a_figure_without_rows_is_none(tmp_path: Path) -> None:
    found = measured(tmp_path, (2, -1))
    assert found.agreement_of_all == wilson(0, 1)
    assert {found.agreement, found.within_one, found.found, found.no_cue} == {None}


def test_csv_and_other_column_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f'question,thought,cue\np0,"{TRACE}", 3\n', encoding="utf-8")
    (trace,) = read_cue_labels(path, columns={"prompt": "question", "reasoning": "thought", "step": "cue"})
    assert (trace.step, trace.prompt.text.reveal(), trace.reasoning.reveal()) == (3, "p0", TRACE)


@pytest.mark.parametrize(
    ("row", "needle"),
    [
        ({"prompt": "p", "step": 2}, "no column reasoning; it has prompt, step"),
        ({"prompt": "p", "reasoning": TRACE, "step": 1}, "2 to 5"),
        ({"prompt": "p", "reasoning": TRACE, "step": 6}, "2 to 5"),
        ({"prompt": "p", "reasoning": TRACE, "step": True}, "2 to 5"),
        ({"prompt": "p", "reasoning": TRACE, "step": 2.0}, "2 to 5"),
        ({"prompt": "p", "reasoning": TRACE, "step": "two"}, "2 to 5"),
        ({"prompt": "p", "reasoning": TRACE, "step": "9" * 5000}, "2 to 5"),
        ({"prompt": "p", "reasoning": [TRACE], "step": 2}, "holds a list"),
    ],
)
def test_a_row_that_cannot_be_understood_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, object], needle: str
) -> None:
    good = {"prompt": "p", "reasoning": TRACE, "step": 2}
    with pytest.raises(SetupError, match=needle) as refusal:
        read_cue_labels(written(tmp_path, good, row))
    assert "labels.jsonl:2" in str(refusal.value)
    assert "three" not in str(refusal.value)


def test_an_empty_file_and_an_unknown_column_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no labelled rows"):
        read_cue_labels(written(tmp_path))
    with pytest.raises(SetupError, match="columns maps label"):
        read_cue_labels(written(tmp_path, {}), columns={"label": "x"})
