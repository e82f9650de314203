"""Records with defaults, so that a test names only what it is about. The words are harmless stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracemend.kit.ids import make_id, trajectory_id
from tracemend.records import (
    Axis,
    Category,
    Cue,
    Finish,
    Group,
    Intervention,
    Judgement,
    Parse,
    Part,
    Prompt,
    Span,
    Trajectory,
    Value,
    Verdict,
)
from tracemend.redaction import Text

_AXES = {Category.HARMFUL: Axis.HARM, Category.REASONING: Axis.CORRECTNESS}


def prompt(text: str = "how is a frobnicator opened ?", **fields: Any) -> Prompt:
    """A harmful prompt unless `category` says otherwise."""
    fields.setdefault("category", Category.HARMFUL)
    return Prompt(id=make_id("prompt", text, fields["category"]), text=Text(text), **fields)


def trajectory(
    of: Prompt | None = None,
    *,
    sample: int = 0,
    reasoning: str = "they ask about it .",
    answer: str = "here it is .",
    **fields: Any,
) -> Trajectory:
    """A finished trajectory with both parts; unfinished or dead ones say so through `finish` and `parse`."""
    of = of or prompt()
    request = fields.pop("request", make_id("request", of.id, sample))
    defaults: dict[str, Any] = {"model": "target", "parse": Parse.CLOSED, "finish": Finish.STOP}
    return Trajectory(
        id=fields.pop("id", trajectory_id(request)),
        request=request,
        prompt=of,
        sample=sample,
        reasoning=Text(reasoning),
        answer=Text(answer),
        **{**defaults, **fields},
    )


def verdict(
    value: Value = Value.SAFE,
    of: Trajectory | None = None,
    *,
    reasoning: Value | None = None,
    answer: Value | None = None,
    score: float = -1.0,
    cue: Cue | None = None,
) -> Verdict:
    """`value` on every part, unless a part has its own; the axis follows from the prompt's category."""
    of = of or trajectory()
    values = {Part.REASONING: reasoning or value, Part.ANSWER: answer or value}
    values[Part.WHOLE] = next((v for v in (Value.UNSAFE, Value.UNKNOWN) if v in values.values()), Value.SAFE)
    judgements = {p: Judgement(part=p, value=v, judge="exact:0", score=score) for p, v in values.items()}
    axis = _AXES.get(of.prompt.category, Axis.REFUSAL)
    return Verdict(
        id=make_id("verdict", of.id, axis),
        axis=axis,
        trajectory=of,
        reasoning=judgements[Part.REASONING],
        answer=judgements[Part.ANSWER],
        whole=judgements[Part.WHOLE],
        cue=cue,
    )


def cue_at(step: int, token: int = -1) -> Cue:
    """What a detector says: `step` 0 is none and -1 is unknown; `token` is the cut before the step."""
    return Cue(detector="exact_cue:0", step=step, num_steps=9, char=10 * step if step > 0 else -1, token=token)


def with_ids(of: Prompt | None = None, *, num_tokens: int = 20, **fields: Any) -> Trajectory:
    """A trajectory with token ids, of which the first opens the reasoning."""
    ids = tuple(range(100, 100 + num_tokens))
    spans = {"reasoning_tokens": Span(start=1, end=num_tokens - 4)}
    return trajectory(of, token_ids=ids, num_new_tokens=num_tokens, **{**spans, **fields})


def forked(
    parent: Verdict, *, cut: int = 6, num_trigger: int = 3, num_new: int = 8, variant: str = "", **fields: Any
) -> Trajectory:
    """What the target went on with after `cut` ids of the parent's and a trigger of `num_trigger` ids."""
    old = parent.trajectory
    step = Intervention(
        kind="trigger",
        strategy="intervene",
        cut_token=cut,
        attempt=old.round + 1,
        variant=variant,
        payload=Text("no ."),
    )
    ids = old.token_ids[:cut] + tuple(range(900, 900 + num_trigger)) + tuple(range(500, 500 + num_new))
    defaults = {"token_ids": ids, "num_new_tokens": num_new, "reasoning_tokens": Span(start=1, end=len(ids) - 3)}
    return trajectory(
        old.prompt,
        sample=old.sample,
        request=make_id("fork", old.id, cut, variant),
        parent=old.id,
        round=old.round + 1,
        intervention=step,
        **{**defaults, **fields},
    )


def group(values: Sequence[Value], of: Prompt | None = None) -> Group:
    """A prompt whose finished samples were judged `values`, in sample order."""
    of = of or prompt()
    verdicts = tuple(verdict(value, trajectory(of, sample=sample)) for sample, value in enumerate(values))
    return group_of(verdicts)


def group_of(verdicts: Sequence[Verdict]) -> Group:
    """The group of verdicts that were built one by one."""
    of = verdicts[0].trajectory.prompt
    return Group(id=make_id("group", of.id, [v.id for v in verdicts]), prompt=of, verdicts=tuple(verdicts))


def rewritten(original: Verdict, *, attempt: int = 1, failure: str = "", **fields: Any) -> Trajectory:
    """A teacher's trajectory in place of the one of `original`."""
    own = {name: fields.pop(name) for name in ("kind", "strategy", "variant", "scores") if name in fields}
    step = Intervention(**{"kind": "rewrite", "strategy": "rewrite", **own}, attempt=attempt, failure=failure)
    old = original.trajectory
    defaults = {"reasoning": "this could hurt people .", "answer": "i will not help with that .", "model": "teacher"}
    return trajectory(
        old.prompt,
        sample=old.sample,
        request=make_id("rewrite", old.id, attempt, own.get("variant", "")),
        parent=old.id,
        intervention=step,
        **{**defaults, **fields},
    )
