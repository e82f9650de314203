"""From outcomes to preference pairs: what was mended, kept or refused becomes something to prefer to something. Pure.

Three kinds (methods.md §11, §12.2 [P]): `intervened`, a fork against the sample that it was cut from; `natural`, a safe
sample against an unsafe one of the same prompt; `benign`, the kept answer of an earlier model against a refusal of the
one that training starts from. Token ids are the truth, and texts are decoded from them. A pair that breaks an invariant
(§12.6 [P]) is cut under the invariant's name and never mended here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tracemend.kit.ids import make_id
from tracemend.records import Axis, Cue, Outcome, OutcomeState, Pair, Parse, Part, Trajectory, Unit, Verdict
from tracemend.redaction import Text
from tracemend.trainer.candidates import Candidates, Collector, is_unicode, unfit

INTERVENED, NATURAL, BENIGN = "intervened", "natural", "benign"
"""Kinds of pair."""

REFUSED = "refused"
"""The reason under which an outcome that nothing was selected of holds a refusal to learn from."""


class Writing(Protocol):
    """How the model's token ids read: `traces.template.ChatTemplate`, seen from here."""

    @property
    def end_token_ids(self) -> frozenset[int]: ...
    def decode(self, token_ids: Sequence[int]) -> Text: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSources:
    """The outcomes that an arm's pairs are made of. An outcome that gives no pair of the source's kind is ignored, or
    counted if it could have been one."""

    mended: Iterable[Outcome] = ()
    """`CORRECTED` and `KEPT` outcomes with an `original`: intervened and natural pairs."""
    refusals: Iterable[Outcome] = ()
    """Outcomes `NOT_SELECTED` as refused, with the refusal as `original`: the rejected sides of benign pairs."""
    answers: Iterable[Outcome] = ()
    """`KEPT` outcomes: the chosen sides of benign pairs, by prompt."""


def usable_pairs(
    sources: PairSources, writing: Writing, *, arm: str, row_of: Mapping[str, int] | None = None
) -> Candidates[Pair]:
    """Every pair that the outcomes allow.

    Args:
        sources: Outcomes by what they give.
        writing: Turns the ids of the model that wrote both sides into text.
        arm: Name that the pairs' units carry.
        row_of: Prompt id to row number as admitted, which orders the pairs; none orders by prompt id.
    """
    found: Collector[Pair] = Collector(row_of=row_of or {})

    def settle(kind: str, unit: Unit, chosen: Verdict, rejected: Verdict) -> None:
        reason = unusable(kind, chosen, rejected)
        if not reason:
            pair = _pair(kind, replace(unit, arm=arm), chosen, rejected, writing)
            reason = pair_fault(pair, writing)
        if reason:
            found.cut(reason)
        else:
            found.add(pair, chosen.trajectory)

    for outcome in sources.mended:
        if outcome.state not in (OutcomeState.CORRECTED, OutcomeState.KEPT):
            continue
        assert outcome.final is not None, f"outcome {outcome.id} is {outcome.state} without a final verdict"
        if outcome.final.axis is not Axis.HARM:
            continue
        if outcome.original is None:
            found.cut("nothing_rejected")
        else:
            kind = INTERVENED if outcome.state is OutcomeState.CORRECTED else NATURAL
            settle(kind, outcome.unit, outcome.final, outcome.original)
    answers = {o.unit.prompt: o.final for o in sources.answers if o.state is OutcomeState.KEPT}
    for outcome in sources.refusals:
        if outcome.state is not OutcomeState.NOT_SELECTED or outcome.reason != REFUSED or outcome.original is None:
            continue
        answer = answers.get(outcome.unit.prompt)
        if answer is None:
            found.cut("nothing_preferred")
        else:
            settle(BENIGN, outcome.unit, answer, outcome.original)
    return found.candidates()


def unusable(kind: str, chosen: Verdict, rejected: Verdict) -> str:
    """Why two verdicts make no pair of this kind, as a reason code, or nothing."""
    better, worse = chosen.trajectory, rejected.trajectory
    reason = unfit(better)
    if reason:
        return reason
    if not worse.is_finished:
        return "rejected_unfinished"
    if not is_unicode(worse):
        return "not_unicode"
    if not (better.token_ids and worse.token_ids):
        return "no_token_ids"
    if kind != BENIGN and Parse.NO_TAGS in (better.parse, worse.parse):
        return "no_reasoning"
    if kind == INTERVENED and (better.intervention is None or better.intervention.kind != "trigger"):
        return "not_intervened"
    if kind == INTERVENED and (rejected.cue is None or rejected.cue.token < 0):
        return "no_cue"
    return ""


def pair_fault(pair: Pair, writing: Writing) -> str:
    """Which invariant of pairs this one breaks, as a reason code, or nothing."""
    if not shares_prefix(pair):
        return "prefix_differs"
    if pair.chosen_tokens == pair.rejected_tokens:
        return "sides_equal"
    ends = writing.end_token_ids
    if pair.chosen_tokens[-1] not in ends or pair.rejected_tokens[-1] not in ends:
        return "no_end_token"
    if pair.kind != INTERVENED:
        return ""
    if pair.prefix_tokens == 0:
        return "no_prefix"
    suffix = writing.decode(pair.chosen_tokens[pair.prefix_tokens :])
    return "" if _words(suffix).startswith(_words(pair.trigger)) and pair.trigger else "no_trigger"


def shares_prefix(pair: Pair) -> bool:
    """Whether both sides begin with the same `prefix_tokens` ids and then go on."""
    h = pair.prefix_tokens
    both_go_on = 0 <= h < min(len(pair.chosen_tokens), len(pair.rejected_tokens))
    return both_go_on and pair.chosen_tokens[:h] == pair.rejected_tokens[:h]


def _pair(kind: str, unit: Unit, chosen: Verdict, rejected: Verdict, writing: Writing) -> Pair:
    better, worse = (_response(verdict.trajectory, writing) for verdict in (chosen, rejected))
    part = Part.REASONING if chosen.axis is Axis.HARM else Part.ANSWER
    pair = Pair(
        id="",
        unit=unit,
        prompt=chosen.trajectory.prompt,
        chosen_tokens=better,
        rejected_tokens=worse,
        prefix_tokens=0,
        kind=kind,
        chosen=writing.decode(better),
        rejected=writing.decode(worse),
        judge=rejected.of(part).judge,
        verifier=chosen.of(part).judge,
    )
    if kind == INTERVENED:
        pair = _intervened(pair, chosen.trajectory, rejected.cue)
    causes = (pair.prompt.id, unit.sample, unit.variant, kind, better, worse, pair.prefix_tokens)
    return replace(pair, id=make_id("pair", *causes))


def _intervened(pair: Pair, fork: Trajectory, cue: Cue | None) -> Pair:
    """The pair cut where the rejected side first turns: later rounds cut behind that, so they share it too."""
    assert cue is not None, "unusable without"
    assert fork.intervention is not None, "unusable without"
    return replace(
        pair,
        prefix_tokens=cue.token,
        trigger=fork.intervention.payload,
        round=fork.round,
        detector=cue.detector,
    )


def _response(trajectory: Trajectory, writing: Writing) -> tuple[int, ...]:
    """The ids up to the first end token, which is the last that the model meant to write."""
    ids = trajectory.token_ids
    return ids[: next((at + 1 for at, token in enumerate(ids) if token in writing.end_token_ids), len(ids))]


def _words(text: Text) -> str:
    """Text with single spaces: word-level tokenizers keep no other white space."""
    return " ".join(text.reveal().split())
