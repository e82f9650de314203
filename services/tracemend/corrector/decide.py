"""Deciding is pure, doing is not: which units a prompt has, and what becomes of each on every event.

`plan_units` is called at admission, `decide` by the stage for every group and every verdict on a teacher's text. The
table is complete: each unit of each event gets exactly one action, and attempts bound every chain of them.
"""

from __future__ import annotations

from collections.abc import Collection

from tracemend.corrector.actions import Action
from tracemend.corrector.settings import ArmCorrection, CorrectionPlan
from tracemend.corrector.strategy import Strategy, Terms, make_strategy
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.records import Category, Group, Part, Prompt, Unit, Verdict


def plan_units(plan: CorrectionPlan, prompt: Prompt, num_samples: int) -> tuple[Unit, ...]:
    """Every unit that `prompt` has under `plan` when it is sampled `num_samples` times."""
    return tuple(unit for arm in plan.arms for unit in arm_units(arm, prompt, num_samples))


def arm_units(arm: ArmCorrection, prompt: Prompt, num_samples: int) -> tuple[Unit, ...]:
    """The units of one arm."""
    slots = strategy_for(arm, prompt.category).units(prompt, num_samples)
    return tuple(Unit(arm=arm.name, prompt=prompt.id, sample=slot.sample, variant=slot.variant) for slot in slots)


def decide(
    arm: ArmCorrection, event: Group | Verdict, *, unit: Unit, original: Verdict | None = None, epoch: int = 0
) -> Action:
    """The one action for `unit` on `event`.

    A `Group` decides on the samples of the target; a `Verdict` on a text that the teacher wrote for the unit, in place
    of the trajectory of `original`. `epoch` counts redrives.
    """
    if isinstance(event, Group):
        return strategy_for(arm, event.prompt.category, epoch=epoch).on_group(event, unit)
    assert original is not None, "a teacher's text is decided on beside what it replaces"
    category = event.trajectory.prompt.category
    return strategy_for(arm, category, epoch=epoch).on_verdict(event, unit, original)


def strategy_for(arm: ArmCorrection, category: Category, *, epoch: int = 0) -> Strategy:
    """The strategy that an arm has for prompts of `category`, under the arm's terms."""
    select, correct, keep = arm.select, arm.correct, arm.keep
    if category is Category.HARMFUL:
        terms = Terms(
            rule=select.rule, parts=select.parts, verify=correct.verify, attempts=correct.attempts, epoch=epoch
        )
        return make_strategy(correct.strategy, terms, correct.options)
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


def check_plan(plan: CorrectionPlan, *, models: Collection[str]) -> None:
    """`SetupError` where an arm names an unknown strategy, option or model, or lacks the teacher that it needs."""
    for arm in plan.arms:
        for category in Category:
            strategy = _checked(arm, category)
            if strategy.kind and not arm.correct.teacher:
                raise SetupError(
                    f"arm '{arm.name}': {category.value} prompts get text from a strong model ({strategy.kind}); "
                    "name it in `correct.teacher`"
                )
        for name in arm.correct.models:
            if name not in models:
                raise SetupError(
                    f"arm '{arm.name}': no model '{name}' under `models`{did_you_mean(name, sorted(models))}"
                )


def _checked(arm: ArmCorrection, category: Category) -> Strategy:
    try:
        return strategy_for(arm, category)
    except SetupError as error:
        raise SetupError(f"arm '{arm.name}': {error}") from None
