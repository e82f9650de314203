"""Records as everybody may see them: the messages of `tracemend.api.views.v1`, in which texts are digests.

Servicers answer with these. Nothing here may copy a `Text` into a message: the words of prompts and models leave by
methods of their own, which need the reviewer role.
"""

from __future__ import annotations

import hashlib
from typing import Any

from tracemend.api.records.v1 import records_pb2
from tracemend.api.views.v1 import views_pb2
from tracemend.kit.ports import ConcludedUnit
from tracemend.records import Cue, Intervention, Judgement, Outcome, Prompt, Trajectory, Unit, Verdict
from tracemend.redaction import Text

_DIGEST_CHARS = 8


def text_digest(text: Text) -> Any:
    """`TextDigest`: the same digest and length that `Text.label` shows."""
    content = str.encode(text, "utf-8", "surrogatepass")
    return views_pb2.TextDigest(digest=hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS], num_chars=len(text))


def prompt_view(prompt: Prompt) -> Any:
    """`PromptView`."""
    return views_pb2.PromptView(
        id=prompt.id,
        text=text_digest(prompt.text),
        category=_enum("CATEGORY", prompt.category),
        source=prompt.source,
        licence=prompt.licence,
        split=prompt.split,
        tags=prompt.tags,
        reference=text_digest(prompt.reference) if prompt.reference else None,
    )


def trajectory_view(trajectory: Trajectory) -> Any:
    """`TrajectoryView`."""
    made = trajectory.intervention
    return views_pb2.TrajectoryView(
        id=trajectory.id,
        request=trajectory.request,
        prompt=trajectory.prompt.id,
        sample=trajectory.sample,
        model=trajectory.model,
        reasoning=text_digest(trajectory.reasoning),
        answer=text_digest(trajectory.answer),
        parse=_enum("PARSE", trajectory.parse),
        finish=_enum("FINISH", trajectory.finish),
        parent=trajectory.parent,
        round=trajectory.round,
        intervention=_intervention_view(made) if made is not None else None,
        num_prompt_tokens=trajectory.num_prompt_tokens,
        num_new_tokens=trajectory.num_new_tokens,
    )


def verdict_view(verdict: Verdict) -> Any:
    """`VerdictView`."""
    return views_pb2.VerdictView(
        id=verdict.id,
        axis=_enum("AXIS", verdict.axis),
        trajectory=trajectory_view(verdict.trajectory),
        reasoning=_judgement_view(verdict.reasoning),
        answer=_judgement_view(verdict.answer),
        whole=_judgement_view(verdict.whole),
        cue=_cue_view(verdict.cue) if verdict.cue is not None else None,
    )


def outcome_view(outcome: Outcome, *, epoch: int = 0) -> Any:
    """`OutcomeView` of a record."""
    return views_pb2.OutcomeView(
        unit=unit_message(outcome.unit),
        epoch=epoch,
        state=_enum("OUTCOME_STATE", outcome.state),
        reason=outcome.reason,
        id=outcome.id,
    )


def concluded_view(concluded: ConcludedUnit) -> Any:
    """`OutcomeView` of a row of the ledger."""
    return views_pb2.OutcomeView(
        unit=unit_message(concluded.unit),
        epoch=concluded.epoch,
        state=_enum("OUTCOME_STATE", concluded.state),
        reason=concluded.reason,
    )


def unit_message(unit: Unit) -> Any:
    """`records.v1.Unit`."""
    return records_pb2.Unit(arm=unit.arm, prompt=unit.prompt, sample=unit.sample, variant=unit.variant)


def _intervention_view(made: Intervention) -> Any:
    return views_pb2.InterventionView(
        kind=made.kind,
        strategy=made.strategy,
        producer=made.producer,
        cut_token=made.cut_token,
        attempt=made.attempt,
        variant=made.variant,
        failure=made.failure,
        payload=text_digest(made.payload) if made.payload else None,
    )


def _judgement_view(judgement: Judgement) -> Any:
    return views_pb2.JudgementView(
        part=_enum("PART", judgement.part),
        value=_enum("VALUE", judgement.value),
        judge=judgement.judge,
        score=judgement.score,
        labels=judgement.labels,
    )


def _cue_view(cue: Cue) -> Any:
    return views_pb2.CueView(
        detector=cue.detector,
        step=cue.step,
        num_steps=cue.num_steps,
        char=cue.char,
        token=cue.token,
        labels=cue.labels,
    )


def _enum(prefix: str, value: str) -> Any:
    """The number of a record's enum value, such as `safe`, in the enum whose values begin with `prefix`."""
    return getattr(records_pb2, f"{prefix}_{str(value).upper()}")
