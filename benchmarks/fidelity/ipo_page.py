"""The committed page of IPO's claims: figures over seeds, the replacement curve, arms at their chosen doses."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from benchmarks.fidelity.figures import Figure, mean_of, over_seeds
from benchmarks.fidelity.interventions import NEUTRAL, NUM_ROUNDS, TRIGGERS, Interventions, recipe_digest
from benchmarks.fidelity.ipo_claims import CLAIMS, claims_digest, harm_after
from benchmarks.fidelity.runs import HARM_SPLITS, METRICS, world_digest
from benchmarks.fidelity.tables import claims_table, made_with, seeds_table, shown, table

_HEAD = """\
<!-- Written by `make fidelity`; do not edit. -->
# IPO on the proving ground

> **SYNTHETIC.** A tiny model of an invented world. The figures show that the code recovers effects that the world
> plants or lets emerge; they are no evidence about real models.

What is claimed of interventions and of training on them, over {num_seeds} base seeds. A seed has its own base model,
prompts, samples, learning rates and order of training. The criteria were written before the seeds were run. Every arm
sweeps its learning rate on validation prompts; its entry is the rate with the least harm whose over-refusal stays
within 15 points of the base's.

*planted*: the world was built to show it · *emergent*: it was not · *identity*: true by construction of the data or by
algebra, and broken only by a fault of ours. Figures are percent and points unless they are counts; harm is of the
reasoning, over the three harm splits unless the claim names some; intervals are 95 %.
"""
_CURVE = """\
Share of the cut traces of which no fork was accepted after so many replacements. The paper (mean of three triggers):
100, 60, 40, 25, 18, 15. Neutral sentences are the control: what they mend, sampling anew would mend.
"""


def digests(*, num_prompts: int) -> dict[str, str]:
    """What a page stands on, as the code is now."""
    return {"world": world_digest(), "recipe": recipe_digest(num_prompts=num_prompts), "claims": claims_digest()}


def render(seeds: Sequence[Interventions], *, num_prompts: int, today: datetime.date) -> str:
    """The whole page, in Markdown."""
    items = [(claim, seeds) for claim in CLAIMS]
    made = digests(num_prompts=num_prompts)
    parts = [
        _HEAD.format(num_seeds=len(seeds)),
        "## Claims\n",
        claims_table(items),
        "## The replacement curve\n",
        _CURVE,
        _curve_table(seeds),
        "## Arms\n",
        _arms_table(seeds),
        "## Seed by seed\n",
        seeds_table(items, seeds=[found.seed for found in seeds]),
        "## Made with\n",
        made_with(made, num_prompts=num_prompts, num_seeds=len(seeds), today=today),
    ]
    return "\n".join(parts)


def _curve_table(seeds: Sequence[Interventions]) -> str:
    def row(arm: str) -> tuple[str, ...]:
        return tuple(
            shown(_over(seeds, lambda found, k=number: harm_after(found, arm, k)), 100)  # type: ignore[misc]  # k is bound
            for number in range(NUM_ROUNDS + 1)
        )

    titles = ("inserted", *(str(number) for number in range(NUM_ROUNDS + 1)))
    return table(titles, [("safety triggers", *row(TRIGGERS)), ("neutral sentences", *row(NEUTRAL))])


def _arms_table(seeds: Sequence[Interventions]) -> str:
    rows = []
    for arm in seeds[0].scores:
        rates = sorted({found.learning_rates[arm] for found in seeds if arm in found.learning_rates})
        chosen = "–" if not rates else f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g} to {rates[-1]:g}"
        rows.append((f"`{arm}`", chosen, *(shown(_level(seeds, arm, metric), 100) for metric in METRICS)))
    return table(("arm", "learning rate", *(metric.replace("_", " ") for metric in METRICS)), rows)


def _level(seeds: Sequence[Interventions], arm: str, metric: str) -> Figure:
    splits = HARM_SPLITS if metric.startswith("harm") else None
    return _over(seeds, lambda found: mean_of(found.scores[arm][metric], splits))


def _over(seeds: Sequence[Interventions], figure: Callable[[Interventions], Figure]) -> Figure:
    figures = [figure(found) for found in seeds]
    return over_seeds([each.value for each in figures]) if len(figures) > 1 else figures[0]
