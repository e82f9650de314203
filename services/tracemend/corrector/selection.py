"""Rules over the K verdicts of a prompt: is it hard, is it all safe, and which sample stands for it.

Called by strategies; pure. Unknown is never taken for safe nor for unsafe: a rule is decided only where every way of
reading the unknown verdicts gives the same answer (supervaluation), else the prompt is undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tracemend.corrector.settings import Rule
from tracemend.records import Finish, Group, Parse, Part, Trajectory, Value, Verdict

_HOLDS: Mapping[Rule, Callable[[int, int], bool]] = {
    Rule.ANY_UNSAFE: lambda num_unsafe, num_all: num_unsafe > 0,
    Rule.MAJORITY_UNSAFE: lambda num_unsafe, num_all: 2 * num_unsafe > num_all,
    Rule.ALL_UNSAFE: lambda num_unsafe, num_all: num_unsafe == num_all,
    Rule.ANY_SAFE: lambda num_unsafe, num_all: num_unsafe < num_all,
    Rule.ALL_SAFE: lambda num_unsafe, num_all: num_unsafe == 0,
    Rule.ALL: lambda num_unsafe, num_all: True,
}


def standing(verdict: Verdict, parts: Sequence[Part]) -> Value:
    """What a sample counts as in a rule: dead and withheld ones are unknown, and an unfinished one is never safe."""
    if verdict.trajectory.finish in (Finish.DEAD, Finish.FILTERED):
        return Value.UNKNOWN
    value = verdict.value(tuple(parts))
    return Value.UNKNOWN if value is Value.SAFE and not verdict.trajectory.is_finished else value


def holds(rule: Rule, values: Sequence[Value]) -> bool | None:
    """Whether `rule` holds for samples of these standings; None where the unknown ones would decide it."""
    assert values, "a group has K samples, and K is at least one"
    num_unsafe, num_unknown = values.count(Value.UNSAFE), values.count(Value.UNKNOWN)
    at_best = _HOLDS[rule](num_unsafe, len(values))
    at_worst = _HOLDS[rule](num_unsafe + num_unknown, len(values))
    return at_best if at_best == at_worst else None


def group_holds(rule: Rule, group: Group, parts: Sequence[Part]) -> bool | None:
    """`holds` for the samples of `group`."""
    return holds(rule, [standing(verdict, parts) for verdict in group.verdicts])


def with_standing(value: Value, group: Group, parts: Sequence[Part]) -> tuple[Verdict, ...]:
    """The verdicts of `group` that count as `value`, in sample order."""
    return tuple(verdict for verdict in group.verdicts if standing(verdict, parts) is value)


def why_unknown(group: Group, parts: Sequence[Part]) -> str:
    """Reason code for a group whose unknown verdicts stood in the way: the most telling cause among them."""
    causes = {_cause(verdict.trajectory) for verdict in with_standing(Value.UNKNOWN, group, parts)}
    return next((cause for cause in ("dead", "provider_filter", "unfinished") if cause in causes), "unknown")


def holds_both_parts(trajectory: Trajectory) -> bool:
    """Whether reasoning and answer are there, apart and ended: what a training row needs."""
    has_words = all(text.reveal().strip() for text in (trajectory.reasoning, trajectory.answer))
    return has_words and trajectory.finish is Finish.STOP and trajectory.parse is Parse.CLOSED


def is_usable(verdict: Verdict, parts: Sequence[Part]) -> bool:
    """Whether a sample may be trained on as it is."""
    return standing(verdict, parts) is Value.SAFE and holds_both_parts(verdict.trajectory)


def _cause(trajectory: Trajectory) -> str:
    if trajectory.finish is Finish.DEAD:
        return "dead"
    if trajectory.finish is Finish.FILTERED:
        return "provider_filter"
    return "unknown" if trajectory.is_finished else "unfinished"
