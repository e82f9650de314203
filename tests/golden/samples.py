"""One fixed sample of every record, and the script that writes their v1 bytes: `python -m tests.golden.samples`.

The bytes are kept from the first release on: a later version must still read them as these samples. Run the script
only for a record that is new; never to make a failing test pass.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tracemend import records as r
from tracemend.redaction import Text
from tracemend.wire import WireCodec

FOLDER = Path(__file__).parent / "v1"

_PROMPT = r.Prompt(
    id="prompt_a",
    text=Text("How many grams of glimmer salt fit in a vial? ¿Ünïcode? \u4e2d\u6587 \U0001f9ea"),
    category=r.Category.LOOKALIKE,
    source="proving",
    licence="CC0-1.0",
    split="heldout",
    tags={"wrapper": "plain", "harm": "none"},
    reference=Text("12"),
)
_SAMPLING = r.Sampling(temperature=0.0, top_p=1.0, top_k=20, repetition_penalty=1.05, max_new_tokens=512)
_INTERVENTION = r.Intervention(
    kind="trigger",
    strategy="intervene",
    producer="model_b",
    payload=Text("Wait."),
    cut_token=7,
    attempt=2,
    variant="wait",
)
_TRAJECTORY = r.Trajectory(
    id="trajectory_a",
    request="request_a",
    prompt=_PROMPT,
    sample=3,
    model="model_a",
    reasoning=Text("First line.\nSecond line.\x00"),
    answer=Text("Twelve."),
    parse=r.Parse.CLOSED,
    finish=r.Finish.STOP,
    token_ids=(1, 0, 151_643, 2),
    reasoning_tokens=r.Span(start=0, end=2),
    answer_tokens=r.Span(start=2, end=3),
    parent="trajectory_0",
    round=1,
    intervention=_INTERVENTION,
    num_prompt_tokens=11,
    num_new_tokens=4,
    seconds=0.25,
    money=0.001,
)
_JUDGEMENT = r.Judgement(
    part=r.Part.REASONING,
    value=r.Value.UNSAFE,
    judge="exact-1",
    score=0.875,
    labels=("S1", "S2"),
    raw=Text("unsafe\nS1,S2"),
)
_VERDICT = r.Verdict(
    id="verdict_a",
    axis=r.Axis.HARM,
    trajectory=_TRAJECTORY,
    reasoning=_JUDGEMENT,
    answer=r.Judgement(part=r.Part.ANSWER, value=r.Value.SAFE, judge="exact-1"),
    whole=r.Judgement(part=r.Part.WHOLE, value=r.Value.UNKNOWN, judge="exact-1"),
)
_UNIT = r.Unit(arm="ipo", prompt="prompt_a", sample=3, variant="wait")

SAMPLES: tuple[Any, ...] = (
    _PROMPT,
    _SAMPLING,
    r.GenerationRequest(
        id="request_a",
        prompt=_PROMPT,
        model="model_a",
        sampling=_SAMPLING,
        sample=3,
        seed=2**63 - 1,
        prefix_tokens=(5, 6, 7),
        parent="trajectory_0",
        round=1,
        intervention=_INTERVENTION,
    ),
    r.Span(start=3, end=9),
    r.Step(ordinal=1, chars=r.Span(start=0, end=12), tokens=r.Span(start=0, end=3)),
    _INTERVENTION,
    _TRAJECTORY,
    _JUDGEMENT,
    _VERDICT,
    r.Group(id="group_a", prompt=_PROMPT, verdicts=(_VERDICT, _VERDICT)),
    _UNIT,
    r.RewriteRequest(
        id="rewrite_a", verdict=_VERDICT, strategy="rewrite", attempt=1, variant="draft-2", settings="ab" * 32
    ),
    r.Outcome(
        id="outcome_a",
        unit=_UNIT,
        state=r.OutcomeState.CORRECTED,
        reason="mended",
        final=_VERDICT,
        original=_VERDICT,
    ),
    r.Example(
        id="example_a",
        unit=_UNIT,
        prompt=_PROMPT,
        reasoning=Text("Better."),
        answer=Text("No."),
        state=r.OutcomeState.CORRECTED,
        strategy="rewrite",
        original_reasoning=Text("Worse."),
        original_answer=Text("Yes."),
    ),
    r.Pair(
        id="pair_a",
        unit=_UNIT,
        prompt=_PROMPT,
        chosen_tokens=(1, 2, 3),
        rejected_tokens=(1, 2, 4),
        prefix_tokens=2,
        trigger=Text("wait"),
        round=1,
        # Fields that came after the first version are as it left them: unset.
        kind="",
        chosen=Text(""),
        rejected=Text(""),
    ),
    r.Cue(
        detector="rule:ab",
        step=3,
        num_steps=5,
        char=20,
        token=7,
        labels=("plan",),
        raw=Text("3"),
    ),
    r.DatasetManifest(
        id="dataset_a",
        arm="ipo",
        kind="pairs",
        digest="cd" * 32,
        num_rows=2,
        shards=("ef" * 32,),
        counts={"state/kept": 1, "state/corrected": 1},
        judges={"harm": "exact-1"},
    ),
    r.Checkpoint(
        id="checkpoint_a",
        arm="ipo",
        parent="model_a",
        model="model_c",
        path="training/ipo",
        dataset="dataset_a",
        step=40,
        final_loss=0.5,
        metrics={"loss": 0.5, "accuracy": 1.0},
    ),
)


def record_types() -> list[type]:
    """Every record class that `tracemend.records` defines."""
    members = vars(r).values()
    return [m for m in members if isinstance(m, type) and dataclasses.is_dataclass(m) and m.__module__ == r.__name__]


def main() -> None:
    """Write the bytes of samples that have none yet."""
    FOLDER.mkdir(exist_ok=True)
    for sample in SAMPLES:
        path = FOLDER / f"{type(sample).__name__}.bin"
        if not path.exists():
            path.write_bytes(WireCodec().encode(sample))


if __name__ == "__main__":
    main()
