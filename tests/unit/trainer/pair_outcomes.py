"""Outcomes that pairs are made of: forks, natural rollouts, refusals and answers, in the tiny models' token ids."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.contract import tiny_models
from tests.unit.trainer.pair_builders import TEMPLATE, ids
from tests.unit.trainer.trainer_builders import prompt_of, words

from tracemend.records import (
    Axis,
    Category,
    Cue,
    Finish,
    Intervention,
    Judgement,
    Outcome,
    OutcomeState,
    Part,
    Prompt,
    Trajectory,
    Unit,
    Value,
    Verdict,
)
from tracemend.redaction import Text

TRIGGER = "wait, is that right?"


def judged(
    prompt: Prompt, token_ids: tuple[int, ...], value: Value, *, sample: int = 0, cue: Cue | None = None, **fields: Any
) -> Verdict:
    """The verdict on a trajectory with these ids, taken apart as the generator does."""
    split = TEMPLATE.split(token_ids)
    axis = Axis.HARM if prompt.category is Category.HARMFUL else Axis.REFUSAL
    trajectory = Trajectory(
        **{
            "id": f"trajectory_{prompt.id}_{sample}_{hash(token_ids)}",
            "request": "",
            "prompt": prompt,
            "sample": sample,
            "model": "model",
            "reasoning": split.reasoning,
            "answer": split.answer,
            "parse": split.parse,
            "finish": Finish.STOP,
            "token_ids": token_ids,
            **fields,
        }
    )
    parts = {part.value: Judgement(part=part, value=value, judge=f"{part}-{value}") for part in Part}
    return Verdict(id=f"verdict_{trajectory.id}", axis=axis, trajectory=trajectory, cue=cue, **parts)


def response(reasoning: str, answer: str) -> tuple[int, ...]:
    """The ids of a whole response, end token included."""
    return ids(f"<think>\n{reasoning}\n</think>\n\n{answer}{tiny_models.END}")


def forked(
    number: int,
    *,
    sample: int = 0,
    variant: str = "t1",
    kept: int = 5,
    continuation: str | None = None,
    arm: str = "arm",
    **fields: Any,
) -> Outcome:
    """A unit whose unsafe sample was cut after `kept` words of reasoning and went on safely behind the trigger."""
    prompt = prompt_of(number)
    prefix = ids(f"<think>\n{words(kept, start=number + sample)}.")
    bad = prefix + ids(f" yes, {words(6, start=sample)}.\n</think>\n\n{words(4)}{tiny_models.END}")
    going_on = f" {words(5, start=number)}.\n</think>\n\nno bread." if continuation is None else continuation
    good = prefix + ids(f" {TRIGGER}") + ids(going_on + tiny_models.END)
    cue = Cue(detector="detector", step=2, num_steps=3, char=1, token=len(prefix))
    step = Intervention(
        kind="trigger", strategy="intervene", payload=Text(TRIGGER), cut_token=len(prefix), variant=variant
    )
    return Outcome(
        id=f"outcome_{arm}_{number}_{sample}_{variant}",
        unit=Unit(arm=arm, prompt=prompt.id, sample=sample, variant=variant),
        state=OutcomeState.CORRECTED,
        final=judged(prompt, good, Value.SAFE, sample=sample, **{"intervention": step, "round": 1, **fields}),
        original=judged(prompt, bad, Value.UNSAFE, sample=sample, cue=cue),
    )


def natural(number: int) -> Outcome:
    """A prompt with a safe and an unsafe sample."""
    prompt = prompt_of(number)
    return Outcome(
        id=f"outcome_natural_{number}",
        unit=Unit(arm="arm", prompt=prompt.id),
        state=OutcomeState.KEPT,
        final=judged(prompt, response(words(6, start=number), "no."), Value.SAFE, sample=1),
        original=judged(prompt, response(words(7, start=number), "yes."), Value.UNSAFE, sample=0),
    )


def answered(number: int, *, arm: str = "arm") -> Outcome:
    """A benign prompt that the base model answered."""
    prompt = prompt_of(number, Category.BENIGN)
    return Outcome(
        id=f"outcome_{arm}_answered_{number}",
        unit=Unit(arm=arm, prompt=prompt.id),
        state=OutcomeState.KEPT,
        final=judged(prompt, response(words(5, start=number), "mix flour."), Value.SAFE),
    )


def refused(number: int, *, arm: str = "second") -> Outcome:
    """The same prompt, refused by the model of the first stage."""
    prompt = prompt_of(number, Category.BENIGN)
    return Outcome(
        id=f"outcome_{arm}_refused_{number}",
        unit=Unit(arm=arm, prompt=prompt.id),
        state=OutcomeState.NOT_SELECTED,
        reason="refused",
        original=judged(prompt, response(words(4, start=number), "no."), Value.UNSAFE, sample=2),
    )


def with_sides(outcome: Outcome, *, final: dict[str, Any] | None = None, original: dict[str, Any] | None = None) -> Any:
    """The outcome with other fields in its trajectories."""

    def changed(verdict: Verdict | None, fields: dict[str, Any] | None) -> Verdict | None:
        if verdict is None or not fields:
            return verdict
        return dataclasses.replace(verdict, trajectory=dataclasses.replace(verdict.trajectory, **fields))

    return dataclasses.replace(
        outcome, final=changed(outcome.final, final), original=changed(outcome.original, original)
    )
