"""How fast training on pairs is beside TRL's DPOTrainer on the same pairs, over how much of them is shared.

    python -m benchmarks.training [--json FILE]

Every arm trains the same random-weight model on the same pairs for the same steps, collation and optimiser included;
arms take turns in one process, and a ratio is one of medians. Tokens are those of both sides, prompts included, so a
ratio of tokens/s is a ratio of times. Arms:

- `trl`: DPOTrainer as it comes, which runs the reference model in every step;
- `trl_cached`: DPOTrainer with `precompute_ref_log_probs`, its precomputation not timed;
- `plain`, `shared`: `intervened_po` without and with one copy of what both sides share, its reference not timed.

On a CPU time is the process's CPU time, which colleagues on the machine do not change; on a GPU it is the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracemend.records import Category, Pair, Prompt, Unit
from tracemend.redaction import Text
from tracemend.trainer.algorithm import TrainerInputs, make_algorithm
from tracemend.trainer.arguments import training_arguments
from tracemend.trainer.pair_rows import PairRow
from tracemend.trainer.settings import TrainSettings

ARMS = ("trl", "trl_cached", "plain", "shared")
_WARM_UP_STEPS = 1


class _Template:
    """All that a trainer asks of a template."""

    identity = "benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="llama", choices=("llama", "qwen2", "qwen3"))
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--length", type=int, default=384, help="tokens of one side, prompt included")
    parser.add_argument("--spread", type=float, default=0.3, help="how much suffixes differ in length, as a share")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.25, 0.5, 0.667, 0.75, 0.9])
    parser.add_argument("--batch", type=int, default=4, help="pairs in a batch")
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    import torch

    torch.set_num_threads(options.threads)
    rows = [_measure(options, share) for share in options.shares]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {options.threads} thread(s)"
    print(f"\n{options.architecture}, {rows[0]['parameters'] / 1e6:.1f} M parameters, {device}")
    print(f"{'shared':>8} {'tokens/s trl':>13} {'÷ trl':>22} {'÷ trl_cached':>24}")
    print(f"{'':>8} {'':>13} {'plain':>11} {'shared':>10} {'plain':>13} {'shared':>10}")
    for row in rows:
        ratios = [row["ratio"][f"{arm}/{to}"] for to in ("trl", "trl_cached") for arm in ("plain", "shared")]
        print(
            f"{row['share']:>8.3f} {row['tokens_per_s']['trl']:>13,.0f} {ratios[0]:>11.2f} {ratios[1]:>10.2f} "
            f"{ratios[2]:>13.2f} {ratios[3]:>10.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"device": device, "options": vars(options), "rows": rows}, default=str))


def _measure(options: argparse.Namespace, share: float) -> dict[str, Any]:
    """One point of the curve."""
    pairs = _pairs(options, share)
    num_tokens = (
        options.steps
        * options.batch
        * statistics.mean(2 * len(row.prompt_ids) + len(row.chosen_ids) + len(row.rejected_ids) for row in pairs)
    )
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        base = _model(options, Path(folder) / "base")
        for repeat in range(options.repeats):
            # Another order each time, so that no arm always runs warm or cold.
            for arm in ARMS[repeat % len(ARMS) :] + ARMS[: repeat % len(ARMS)]:
                seconds[arm].append(_time(_trainer(arm, pairs, base, Path(folder), options)))
        parameters = _num_parameters(base)
    medians = {arm: statistics.median(times) for arm, times in seconds.items()}
    ratio = {f"{arm}/{to}": medians[to] / medians[arm] for arm in ("plain", "shared") for to in ("trl", "trl_cached")}
    print(f"share {share:.3f}: " + ", ".join(f"{arm} {value:.2f} s" for arm, value in medians.items()), flush=True)
    return {
        "share": share,
        "parameters": parameters,
        "seconds": seconds,
        "tokens_per_s": {arm: num_tokens / value for arm, value in medians.items()},
        "ratio": ratio,
    }


def _pairs(options: argparse.Namespace, share: float) -> list[PairRow]:
    """Pairs of random ids of which `share` of a side, a prompt of 32 tokens included, is shared on average."""
    import random

    rng = random.Random(0)

    def draw(number: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, options.vocab) for _ in range(number))

    prompt = draw(min(32, int(share * options.length) - 1))
    prefix = int(share * options.length) - len(prompt)
    wanted = options.length - len(prompt) - prefix
    rows: list[PairRow] = []
    for _ in range(options.batch * (options.steps + _WARM_UP_STEPS)):
        shared = draw(prefix)
        tails = [draw(round(wanted * rng.uniform(1 - options.spread, 1 + options.spread))) for _ in range(2)]
        rows.append(_row(len(rows), prompt, shared + tails[0], shared + tails[1], prefix))
    return rows


def _row(number: int, prompt: tuple[int, ...], chosen: tuple[int, ...], rejected: tuple[int, ...], h: int) -> PairRow:
    pair = Pair(
        id=f"pair_{number}",
        unit=Unit(arm="benchmark", prompt="prompt"),
        prompt=Prompt(id="prompt", text=Text(""), category=Category.HARMFUL),
        chosen_tokens=chosen,
        rejected_tokens=rejected,
        prefix_tokens=h,
        kind="intervened",
        chosen=Text(""),
        rejected=Text(""),
    )
    return PairRow(
        pair=pair,
        prompt_ids=prompt,
        chosen_ids=chosen,
        rejected_ids=rejected,
        prefix=h,
        chosen_end=len(chosen),
        rejected_end=len(rejected),
        nll_start=h,
        nll_end=len(chosen),
    )


def _trainer(arm: str, pairs: Sequence[PairRow], base: Path, folder: Path, options: argparse.Namespace) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = TrainSettings(
        algorithm="intervened_po",
        options={"shared_prefix": "on" if arm == "shared" else "off"},
        batch_size=options.batch,
        epochs=1,
        save_steps=10_000,
    )
    inputs = TrainerInputs(
        pairs=pairs,
        schedule=range(len(pairs)),
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        tokenizer=AutoTokenizer.from_pretrained(base),
        template=_Template(),  # type: ignore[arg-type]  # its identity is all that is asked for
        parent="base",
        shared=folder / "references",
        peft=None,
        arguments=training_arguments(settings, folder=folder / "work", num_steps=options.steps + _WARM_UP_STEPS),
        callbacks=(),
        settings=settings,
    )
    return (
        _trl_trainer(inputs, base, cached=arm == "trl_cached")
        if arm.startswith("trl")
        else make_algorithm(settings).trainer(inputs)
    )


def _trl_trainer(inputs: TrainerInputs, base: Path, *, cached: bool) -> Any:
    """DPOTrainer on the same tokens."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    class Tokenised(DPOTrainer):  # type: ignore[misc]  # trl is untyped here
        """Takes ids as they are."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    rows = Dataset.from_dict(
        {
            "prompt_ids": [list(row.prompt_ids) for row in inputs.pairs],
            "chosen_ids": [list(row.chosen_ids) for row in inputs.pairs],
            "rejected_ids": [list(row.rejected_ids) for row in inputs.pairs],
        }
    )
    return Tokenised(
        model=inputs.model,
        ref_model=None if cached else AutoModelForCausalLM.from_pretrained(base, dtype=inputs.model.dtype),
        args=DPOConfig(
            **inputs.arguments,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, 0.2],
            max_length=None,
            precompute_ref_log_probs=cached,
        ),
        train_dataset=rows,
        processing_class=inputs.tokenizer,
    )


def _time(trainer: Any) -> float:
    """Seconds of the timed steps: from the end of the warm-up to the end of the last step."""
    import torch
    from transformers import PrinterCallback, TrainerCallback

    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Notes when each step ends."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
                marks.append(time.perf_counter())
            else:
                marks.append(time.process_time())

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    trainer.args.save_strategy = "no"
    trainer.train()
    return marks[-1] - marks[_WARM_UP_STEPS - 1]


def _model(options: argparse.Namespace, folder: Path) -> Path:
    """A random-weight model with a tokenizer that has an end token and nothing else."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    heads = options.hidden // 64
    shape = {
        "vocab_size": options.vocab,
        "hidden_size": options.hidden,
        "intermediate_size": 3 * options.hidden,
        "num_hidden_layers": options.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "max_position_embeddings": 4 * options.length,
        "tie_word_embeddings": True,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "bos_token_id": None,
    }
    if options.architecture == "qwen3":
        shape["head_dim"] = 64
    AutoModelForCausalLM.from_config(AutoConfig.for_model(options.architecture, **shape)).save_pretrained(folder)
    core = Tokenizer(models.WordLevel({"<end>": 0, "<unk>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    return folder


def _num_parameters(base: Path) -> int:
    from transformers import AutoModelForCausalLM

    return sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(base).parameters())


if __name__ == "__main__":
    main()
