"""Group-relative policy optimisation against a judge, by TRL's GRPOTrainer: the comparison that samples on-policy.

It takes each harmful prompt of the dataset once per epoch, samples a group of responses to it from the model in
training, and has them scored by the reward that the composition offers: methods.md §13 [X] takes
½(1{reasoning safe} + 1{answer safe}). The dataset's responses are not used. `batch_size` counts responses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tracemend.kit.errors import SetupError
from tracemend.records import Category, Example, Finish
from tracemend.trainer.algorithm import Algorithm, TrainerInputs, algorithms
from tracemend.trainer.rendering import Template, TokenRow
from tracemend.trainer.reward import Reward, Sampled
from tracemend.trainer.settings import TrainSettings


@algorithms.register
@dataclass(frozen=True, slots=True)
class GRPO(Algorithm):
    """A group of 8 is methods.md §13's [P]; the rest is [X]."""

    _: KW_ONLY
    group: Annotated[int, Field(ge=2)] = 8
    """Responses to a prompt, which are scored against each other."""
    kl: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence from the model that training started from; above 0 that model is kept in memory."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """Where the probability ratio is clipped."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 2048
    loss: Literal["grpo", "dr_grpo", "dapo"] = "grpo"
    """How TRL averages over tokens."""

    samples: ClassVar[bool] = True

    def chosen(self, examples: Sequence[Example]) -> list[Example]:
        """One row per harmful prompt, the first."""
        first: dict[str, Example] = {}
        for example in examples:
            if example.prompt.category is Category.HARMFUL:
                first.setdefault(example.prompt.id, example)
        return list(first.values())

    def rows_per_step(self, settings: TrainSettings) -> int:
        responses = Algorithm.rows_per_step(self, settings)
        if responses % self.group:
            raise SetupError(
                f"a step of {responses} responses holds no whole groups of {self.group}: make batch_size × "
                "gradient_accumulation × num_processes a multiple of options.group"
            )
        return responses // self.group

    def trainer(self, inputs: TrainerInputs) -> Any:
        if inputs.reward is None:
            raise SetupError(
                "algorithm 'grpo' needs a reward, which is offered to trainings in the run's own process: set "
                "train.launcher: inline"
            )
        self._require_room(inputs)
        return _trainer(self, inputs, inputs.reward)

    def _require_room(self, inputs: TrainerInputs) -> None:
        context = getattr(inputs.model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(row.num_prompt_tokens for row in inputs.rows)
        if context and longest + self.max_new_tokens > context:
            raise SetupError(
                f"options.max_new_tokens {self.max_new_tokens} and a prompt of {longest} tokens do not fit into the "
                f"model's context of {context}: lower it"
            )


def _trainer(algorithm: GRPO, inputs: TrainerInputs, reward: Reward) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows, template = inputs.rows, inputs.template
    inputs.model.generation_config.eos_token_id = sorted(template.end_token_ids)

    class PromptTrainer(GRPOTrainer):  # type: ignore[misc]  # trl is untyped here
        """Its prompts are row numbers, whose ids are the ones that the model is served."""

        def _tokenize_prompts(self, prompts: list[str]) -> Any:
            chosen = [rows[int(number)] for number in prompts]
            return [list(row.input_ids[: row.num_prompt_tokens]) for row in chosen], None, {}

    def scores(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return _scores(reward, [rows[int(number)] for number in prompts], completion_ids, template)

    return PromptTrainer(
        model=inputs.model,
        reward_funcs=scores,
        args=GRPOConfig(
            **inputs.arguments,
            num_generations=algorithm.group,
            max_completion_length=algorithm.max_new_tokens,
            temperature=algorithm.temperature,
            top_p=algorithm.top_p,
            beta=algorithm.kl,
            epsilon=algorithm.epsilon,
            loss_type=algorithm.loss,
            shuffle_dataset=False,
            disable_dropout=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(n) for n in _whole_steps(algorithm, inputs)]}),
        processing_class=inputs.tokenizer,
        peft_config=inputs.peft,
        callbacks=list(inputs.callbacks),
    )


def _whole_steps(algorithm: GRPO, inputs: TrainerInputs) -> list[int]:
    """The schedule, filled up from its beginning: TRL leaves out a last step that is not full."""
    schedule, size = list(inputs.schedule), algorithm.rows_per_step(inputs.settings)
    wanted = math.ceil(len(schedule) / size) * size
    return [schedule[at % len(schedule)] for at in range(wanted)]


def _scores(
    reward: Reward, rows: Sequence[TokenRow], responses: Sequence[Sequence[int]], template: Template
) -> list[float]:
    """The reward of each response; a number that is none would silently take the response out of its group."""
    values = [
        float(value) for value in reward([_sampled(r, ids, template) for r, ids in zip(rows, responses, strict=True)])
    ]
    if len(values) != len(rows) or not all(math.isfinite(value) for value in values):
        raise SetupError("the reward must give one finite number per response: check what the run's judges return")
    return values


def _sampled(row: TokenRow, ids: Sequence[int], template: Template) -> Sampled:
    split = template.split(ids)
    ended = bool(ids) and ids[-1] in template.end_token_ids
    return Sampled(
        prompt=row.example.prompt,
        reasoning=split.reasoning,
        answer=split.answer,
        token_ids=tuple(ids),
        parse=split.parse,
        finish=Finish.STOP if ended else Finish.LENGTH,
    )
