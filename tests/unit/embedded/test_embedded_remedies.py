"""Every reason for which the slices end a unit has a remedy of its own."""

from __future__ import annotations

import re
from pathlib import Path

import tracemend.corrector
import tracemend.generator
from tracemend.embedded.remedies import remedy_of

SLICES = [Path(slice_.__path__[0]) for slice_ in (tracemend.corrector, tracemend.generator)]
_SAID = re.compile(r"""(?:reason=|return |Reject\()"([a-z]+_[a-z_]+)\"""")


def test_what_the_slices_end_units_for_is_told_with_what_to_change() -> None:
    texts = [path.read_text() for folder in SLICES for path in folder.rglob("*.py") if "servic" not in path.name]
    said = {reason for text in texts for reason in _SAID.findall(text)}
    assert {"cue_unknown", "sample_missing", "below_full_marks", "no_token_ids"} <= said, "the search finds them"
    without = sorted(reason for reason in said if remedy_of(reason) == remedy_of("nobody has heard of it"))
    assert not without


def test_a_selection_rule_that_let_nothing_through_is_named() -> None:
    assert "select.rule" in remedy_of("not_majority_unsafe")
