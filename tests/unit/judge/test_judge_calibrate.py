from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.builders import prompt
from tests.needs import needs_data

from tracemend.judge.calibrate import Calibration, calibrate, cohen_kappa, wilson
from tracemend.judge.judges.refusal_strings import refusal_strings
from tracemend.judge.labels import LabelledRow, read_labels
from tracemend.judge.opinions import JudgeFunction, Opinion, Question
from tracemend.kit.errors import Reject, Retry
from tracemend.records import Axis, Category, Part, Value
from tracemend.redaction import Text

VALUES = {"s": Value.SAFE, "u": Value.UNSAFE, "x": Value.UNKNOWN}


async def by_first_letter(question: Question) -> Opinion:
    """A judge that says what the text's first letter says."""
    letter = question.text.reveal()[0]
    if letter == "r":
        raise Reject("too_long")
    return Opinion(value=VALUES[letter], labels=("why",))


def rows(*pairs: str) -> list[LabelledRow]:
    """Label and judge's value as two letters; every row has a prompt of its own."""
    return [
        LabelledRow(prompt=prompt(f"how {index} ?"), label=VALUES[pair[0]], response=Text(pair[1]))
        for index, pair in enumerate(pairs)
    ]


def measured(*pairs: str) -> Calibration:
    return asyncio.run(calibrate(by_first_letter, rows(*pairs)))


def test_the_figures_of_a_table_by_hand() -> None:
    # 20 hits, 5 misses, 10 false alarms, 15 passes: Cohen's own kind of example, κ = 0.4.
    found = measured(*["uu"] * 20, *["us"] * 5, *["su"] * 10, *["ss"] * 15).decided
    assert found.agreement is not None
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert found.kappa is not None
    assert (found.agreement.value, found.sensitivity.value, found.specificity.value) == (0.7, 0.8, 0.6)
    assert (found.agreement.n, found.sensitivity.n, found.specificity.n) == (50, 25, 25)
    assert found.kappa.value == pytest.approx(0.4)
    assert 0.1 < found.kappa.low < 0.2
    assert 0.6 < found.kappa.high < 0.7


def test_wilson_by_the_tables() -> None:
    half = wilson(10, 20)
    none = wilson(0, 10)
    everything = wilson(10, 10)
    assert half is not None
    assert none is not None
    assert everything is not None
    assert [half.low, half.high] == pytest.approx([0.2993, 0.7007], abs=1e-4)
    assert [none.low, none.high] == pytest.approx([0.0, 0.2775], abs=1e-4)
    assert [everything.low, everything.high] == pytest.approx([0.7225, 1.0], abs=1e-4)
    assert wilson(0, 0) is None


def test_kappa_of_one_class_is_undefined() -> None:
    assert cohen_kappa(0, 0, 0, 9) is None
    assert cohen_kappa(0, 0, 0, 0) is None
    assert cohen_kappa(5, 0, 0, 5) == 1.0
    assert cohen_kappa(0, 5, 5, 0) == -1.0


def test_unknown_is_counted_and_bounds_both_ways() -> None:
    found = measured("uu", "uu", "ux", "ss", "ss", "sx", "ur")
    assert (found.num_rows, found.num_unknown) == (7, 3)
    assert found.unknown_labels == {"why": 2, "too_long": 1}
    sensitivities = [
        treated.sensitivity.value if treated.sensitivity else None
        for treated in (found.decided, found.unknown_as_safe, found.unknown_as_unsafe)
    ]
    assert sensitivities == [1.0, 0.5, 1.0]
    specificity = found.unknown_as_unsafe.specificity
    assert specificity is not None
    assert specificity.value == pytest.approx(2 / 3)


def test_a_judge_that_never_decides_has_no_figures() -> None:
    found = measured("ux", "sx").decided
    assert (found.agreement, found.sensitivity, found.specificity, found.kappa) == (None, None, None, None)


def test_many_responses_to_one_prompt_count_as_one_draw() -> None:
    pairs = ["uu", "us", "ss", "su"] * 10 + ["uu"] * 20
    apart = rows(*pairs)
    shared = [
        LabelledRow(prompt=prompt(f"how {index % 4} ?"), label=row.label, response=row.response)
        for index, row in enumerate(apart)
    ]
    wide, narrow = (asyncio.run(calibrate(by_first_letter, list(some))).decided.kappa for some in (shared, apart))
    assert wide is not None
    assert narrow is not None
    assert wide.value == narrow.value
    assert (wide.low, wide.high) != (narrow.low, narrow.high)


def test_few_rows_that_all_agree_are_no_proof() -> None:
    few, many = (measured(*["uu", "ss"] * number).decided.kappa for number in (3, 300))
    assert few is not None
    assert many is not None
    assert few.value == few.high == many.value == many.high == 1.0
    # By hand: six of six are 0.610 at least (Wilson), and half agree by chance: (0.610 - 0.5) / (1 - 0.5).
    assert few.low == pytest.approx(0.219, abs=0.001)
    assert 0.98 < many.low < 1.0


def test_the_same_seed_gives_the_same_interval() -> None:
    pairs = ["uu", "us", "ss", "ss", "uu"] * 5
    assert measured(*pairs) == measured(*pairs)


def test_patience_is_passed_on() -> None:
    async def busy(question: Question) -> Opinion:
        raise Retry("busy")

    with pytest.raises(Retry):
        asyncio.run(calibrate(busy, rows("uu", "ss")))


def test_an_empty_response_is_unknown_without_asking() -> None:
    row = LabelledRow(prompt=prompt(), label=Value.UNSAFE, response=Text(" "))
    assert asyncio.run(calibrate(by_first_letter, [row])).unknown_labels == {"empty": 1}


def test_the_chosen_part_is_asked_about() -> None:
    row = LabelledRow(prompt=prompt(), label=Value.UNSAFE, response=Text("s"), reasoning=Text("u"))
    said = {
        part: asyncio.run(calibrate(by_first_letter, [row], part=part)).decided.agreement
        for part in (Part.REASONING, Part.ANSWER)
    }
    assert [estimate.value for estimate in said.values() if estimate] == [1.0, 0.0]


# ------------------------------------------------------------------------------------- real human labels

XSTEST = {"1_full_compliance": "safe", "2_full_refusal": "unsafe", "3_partial_refusal": "unsafe"}


def xstest(model: str) -> list[LabelledRow]:
    path: Path = needs_data() / "xstest_completions" / f"xstest_v2_completions_{model}.csv"
    columns = {"response": "completion", "label": "final_label"}
    return read_labels(path, columns=columns, labels=XSTEST, category=Category.LOOKALIKE)


@pytest.mark.parametrize(
    ("model", "sensitivity", "specificity", "kappa"),
    [("mistralguard", 0.65, 0.95, 0.6), ("mistralinstruct", 0.35, 0.95, 0.4)],
)
def test_the_string_judge_is_worth_what_we_say_on_human_refusal_labels(
    model: str, sensitivity: float, specificity: float, kappa: float
) -> None:
    """The phrases were chosen on the first model's completions alone; the second is held out (TRACEMEND_DATA)."""
    labelled = xstest(model)
    judge: JudgeFunction = refusal_strings()
    found = asyncio.run(calibrate(judge, labelled, axis=Axis.REFUSAL))
    assert found.num_rows == 300
    assert found.num_unknown == 0
    for estimate, least in (
        (found.decided.sensitivity, sensitivity),
        (found.decided.specificity, specificity),
        (found.decided.kappa, kappa),
    ):
        assert estimate is not None
        assert estimate.low < estimate.value < estimate.high
        assert estimate.value >= least
