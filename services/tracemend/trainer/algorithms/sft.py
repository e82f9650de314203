"""Supervised fine-tuning on the response: cross-entropy over the labels that `rendering` made, by TRL's SFTTrainer."""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from tracemend.trainer.algorithm import Algorithm, TrainerInputs, algorithms


@algorithms.register
@dataclass(frozen=True, slots=True)
class Sft(Algorithm):
    """A trainer on finished rows: TRL applies no template, mask, packing, shuffle or cut of its own."""

    def trainer(self, inputs: TrainerInputs) -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        rows = Dataset.from_dict(
            {
                "input_ids": [list(row.input_ids) for row in inputs.rows],
                "labels": [list(row.labels) for row in inputs.rows],
            }
        )
        return SFTTrainer(
            model=inputs.model,
            args=SFTConfig(
                **inputs.arguments,
                max_length=None,
                packing=False,
                completion_only_loss=False,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=rows.select(inputs.schedule),
            processing_class=inputs.tokenizer,
            peft_config=inputs.peft,
            callbacks=list(inputs.callbacks),
        )
