"""Deciding is pure, doing is not: which units a prompt has, and what becomes of each on every event.

`plan_units` is called at admission, `decide` by the stage for every group and every verdict on a teacher's text or a
fork. The table is complete: each unit of each event gets exactly one action, and attempts and rounds bound every chain.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tracemend.corrector.actions import Action
from tracemend.corrector.settings import ArmCorrection, CorrectionPlan
from tracemend.corrector.strategy import Strategy, Terms, make_strategy
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.records import Category, Group, Part, Prompt, Unit, Verdict


def plan_units(plan: CorrectionPlan, *prompts: Prompt, num_samples: int) -> list[Unit]:
    """Every unit that `prompts` have under `plan` when each is sampled `num_samples` times, prompt by prompt."""
    categories = {prompt.category for prompt in prompts}
    chosen = [(arm, {category: strategy_for(arm, category) for category in categories}) for arm in plan.arms]
    return [
        unit
        for prompt in prompts
        for arm, strategies in chosen
        for unit in _units(arm, strategies[prompt.category], prompt, num_samples)
    ]


def arm_units(arm: ArmCorrection, prompt: Prompt, num_samples: int) -> tuple[Unit, ...]:
    """The units of one arm; none where it leaves prompts of this category alone."""
    return _units(arm, strategy_for(arm, prompt.category), prompt, num_samples)


def _units(arm: ArmCorrection, strategy: Strategy | None, prompt: Prompt, num_samples: int) -> tuple[Unit, ...]:
    slots = strategy.units(prompt, num_samples) if strategy is not None else ()
    return tuple(Unit(arm=arm.name, prompt=prompt.id, sample=slot.sample, variant=slot.variant) for slot in slots)


def decide(
    arm: ArmCorrection, event: Group | Verdict, *, unit: Unit, original: Verdict | None = None, epoch: int = 0
) -> Action:
    """The one action for `unit` on `event`.

    A `Group` decides on the samples of the target; a `Verdict` on a text that the teacher wrote for the unit, or a fork
    of its sample, in place of the trajectory of `original`. `epoch` counts redrives.
    """
    prompt = event.prompt if isinstance(event, Group) else event.trajectory.prompt
    strategy = strategy_for(arm, prompt.category, epoch=epoch)
    assert strategy is not None, "only planned units are decided on"
    if isinstance(event, Group):
        return strategy.on_group(event, unit)
    assert original is not None, "a text or a fork is decided on beside what it replaces"
    return strategy.on_verdict(event, unit, original)


def strategy_for(arm: ArmCorrection, category: Category, *, epoch: int = 0) -> Strategy | None:
    """The strategy that an arm has for prompts of `category`, under the arm's terms; None where it has none for them.

    An arm that mends harmful prompts keeps what it wants of the others; one whose strategy is about others works on
    those alone.
    """
    select, correct, keep = arm.select, arm.correct, arm.keep
    terms = Terms(rule=select.rule, parts=select.parts, verify=correct.verify, attempts=correct.attempts, epoch=epoch)
    chosen = make_strategy(correct.strategy, terms, correct.options)
    if category in chosen.categories:
        return chosen
    if Category.HARMFUL not in chosen.categories or category is Category.HARMFUL:
        return None
    is_task = category is Category.REASONING
    # On the axes of refusal and correctness the answer alone is judged.
    terms = Terms(
        rule=keep.reasoning if is_task else keep.benign,
        parts=(Part.ANSWER,),
        verify=(Part.ANSWER,),
        attempts=correct.attempts,
        epoch=epoch,
    )
    return make_strategy("solve" if is_task and keep.correct_wrong else "keep", terms, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a run puts at the strategies' disposal."""

    models: Collection[str]
    """Names of the models beside the target."""
    engine: str = ""
    """The target's, as the run file names it, without an address."""
    takes_token_ids: bool = True
    """Whether that engine goes on from token ids."""
    has_detector: bool = True
    """Whether the judge locates compliance cues."""


def check_plan(plan: CorrectionPlan, means: Means) -> None:
    """`SetupError` where an arm names an unknown strategy, option or model, or lacks what its strategy needs."""
    for arm in plan.arms:
        for category in Category:
            strategy = _checked(arm, category)
            if strategy is not None:
                _check_means(strategy, arm, means, category)
        for name in arm.correct.models:
            if name not in means.models:
                known = did_you_mean(name, sorted(means.models))
                raise SetupError(f"arm '{arm.name}': no model '{name}' under `models`{known}")


def _check_means(strategy: Strategy, arm: ArmCorrection, means: Means, category: Category) -> None:
    if strategy.kind and not arm.correct.teacher:
        raise SetupError(
            f"arm '{arm.name}': {category.value} prompts get text from a strong model ({strategy.kind}); "
            "name it in `correct.teacher`"
        )
    if not strategy.forks:
        return
    name = strategy.terms.strategy
    if not means.takes_token_ids:
        raise SetupError(
            f"arm '{arm.name}': strategy '{name}' has the target go on from exact token ids, which engine "
            f"'{means.engine}' does not take; set `target.engine` to transformers or vllm"
        )
    if not means.has_detector:
        raise SetupError(
            f"arm '{arm.name}': strategy '{name}' cuts at compliance cues; name who finds them in `judge.detector`"
        )


def _checked(arm: ArmCorrection, category: Category) -> Strategy | None:
    try:
        return strategy_for(arm, category)
    except SetupError as error:
        raise SetupError(f"arm '{arm.name}': {error}") from None
