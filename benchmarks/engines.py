"""Tokens per second of the in-process engines beside transformers' own `generate`, on one model and one machine.

    python benchmarks/engines.py [--model FOLDER] [--prompts 64 256] [--engines generate transformers vllm] [--json]

Without `--model` it builds a tiny random Llama (hidden 96, 3 layers, 274 tokens) that ends a response after
`--mean-length` tokens on average, so that rows end at different times as real ones do. All engines answer the same
prompts with the same settings; rounds are interleaved, and the ratio of medians is what to compare: absolute rates
are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tracemend.kit.ports import ModelRequest, TextModel
from tracemend.records import Sampling
from tracemend.runtime.models import open_model

VOCAB, END = 274, 1
WORDS = [f"w{i}" for i in range(VOCAB - 2)]


def main() -> None:
    options = parse()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or build_model(Path(scratch) / "model", mean_length=options.mean_length)
        results = asyncio.run(measure(folder, options))
    if options.json:
        print(json.dumps(results))
        return
    for num_prompts, rates in results.items():
        base = rates.get("generate", next(iter(rates.values())))
        for engine, rate in rates.items():
            print(f"{num_prompts:>5} prompts  {engine:<13} {rate:>9,.0f} tokens/s  {rate / base:5.2f}x")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--engines", nargs="+", default=["generate", "transformers", "vllm"])
    parser.add_argument("--mean-length", type=int, default=60)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


async def measure(folder: Path, options: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Median tokens per second by number of prompts and engine."""
    sampling = Sampling(temperature=0.8, top_p=1.0, max_new_tokens=options.max_new_tokens)
    engines: dict[str, Any] = {}
    for name in options.engines:
        if name == "generate":
            engines[name] = Generate(folder, max_batch=options.max_batch, num_threads=options.threads)
        elif name == "transformers":
            extra = {"max_batch": options.max_batch, "num_threads": options.threads}
            engines[name] = Engine(open_model(f"transformers:{folder}", options=extra))
        else:
            engines[name] = Engine(open_model(f"vllm:{folder}", options={"max_batch": options.max_batch}))
    results: dict[int, dict[str, float]] = {}
    for num_prompts in options.prompts:
        prompts = draw_prompts(num_prompts)
        rates: dict[str, list[float]] = {name: [] for name in engines}
        for round_ in range(options.rounds + 1):
            for name, engine in engines.items():
                started = time.perf_counter()
                num_tokens = await engine.complete(prompts, sampling)
                if round_:  # the first warms up
                    rates[name].append(num_tokens / (time.perf_counter() - started))
        results[num_prompts] = {name: statistics.median(values) for name, values in rates.items()}
    for engine in engines.values():
        await engine.aclose()
    return results


def draw_prompts(num_prompts: int) -> list[tuple[int, ...]]:
    chance = random.Random(num_prompts)
    return [tuple(chance.randrange(2, VOCAB) for _ in range(chance.randint(6, 24))) for _ in range(num_prompts)]


class Engine:
    """One of ours: all prompts at once, it batches."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    async def complete(self, prompts: list[tuple[int, ...]], sampling: Sampling) -> int:
        requests = [ModelRequest(prompt_tokens=p, sampling=sampling, seed=i) for i, p in enumerate(prompts)]
        completions = await asyncio.gather(*map(self._model.complete, requests))
        return sum(completion.num_new_tokens for completion in completions)

    async def aclose(self) -> None:
        await self._model.aclose()


class Generate:
    """The yardstick: left-padded batches, sorted by length, through `generate`."""

    def __init__(self, folder: Path, *, max_batch: int, num_threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(num_threads)
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._max_batch = max_batch

    async def complete(self, prompts: list[tuple[int, ...]], sampling: Sampling) -> int:
        import torch

        ordered = sorted(prompts, key=len)
        total = 0
        for start in range(0, len(ordered), self._max_batch):
            chunk = ordered[start : start + self._max_batch]
            width = max(map(len, chunk))
            ids = torch.tensor([[END] * (width - len(p)) + list(p) for p in chunk])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in chunk])
            with torch.inference_mode():
                written = self._model.generate(
                    ids, attention_mask=mask, do_sample=True, temperature=sampling.temperature, top_p=1.0, top_k=0,
                    max_new_tokens=sampling.max_new_tokens, pad_token_id=END,
                )[:, width:]  # fmt: skip
            ended = (written == END).int()
            lengths = torch.where(ended.any(dim=1), ended.argmax(dim=1) + 1, written.shape[1])
            total += int(lengths.sum())
        return total

    async def aclose(self) -> None:
        del self._model


def build_model(folder: Path, *, mean_length: int) -> Path:
    """A tiny random Llama that ends with a chance of about 1/`mean_length` per token."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=3, max_position_embeddings=512, attention_bias=True, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=END, pad_token_id=END, initializer_range=0.05,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    end_after(model, END, mean_length=mean_length)
    model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=END)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def end_after(model: Any, end: int, *, mean_length: int, temperature: float = 0.8) -> None:
    """Make a random Llama with attention biases draw token `end` with a chance of about 1/`mean_length`.

    A bias in the last attention layer gives every hidden state a fixed component, which the end token's row reads.
    """
    import torch

    with torch.no_grad():
        model.model.layers[-1].self_attn.o_proj.bias[0] = 5.0
        model.lm_head.weight[end] = 0
        low, high = 0.0, 2.0
        probe = torch.randint(end + 1, model.config.vocab_size, (64, 16))
        for _ in range(20):
            model.lm_head.weight[end, 0] = (low + high) / 2
            share = float((model(probe).logits[:, 4:] / temperature).softmax(-1)[..., end].mean())
            low, high = ((low + high) / 2, high) if share < 1 / mean_length else (low, (low + high) / 2)


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(["[UNK]", "<|end|>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", unk_token="[UNK]").save_pretrained(folder)


if __name__ == "__main__":
    main()
