"""Trains the base model from nothing: a small Llama, every token a target, batches of documents of like length.

`base_model` calls it once per configuration. Deterministic for a given number of threads; the process-wide random
state and thread count are left as they were found.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracemend.proving.corpus import END
from tracemend.proving.tokenizer import MAX_TOKENS, PAD

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

Progress = Callable[[int, int, float], None]
"""Called with step, number of steps, loss in nats per token."""

_PROGRESS_EVERY = 10
_IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeConfig:
    """The model's size."""

    hidden: int = 96
    num_layers: int = 3
    num_heads: int = 3
    mlp: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How the base model is trained. Many small steps matter more here than many tokens: copying forms late."""

    batch_tokens: int = 960
    peak_rate: float = 5e-3
    warmup_share: float = 0.05
    final_share: float = 0.05
    """Learning rate at the end, as a share of the peak."""
    weight_decay: float = 0.01
    max_norm: float = 1.0
    seed: int = 0


def train(
    corpus: Sequence[str],
    ids: dict[str, int],
    *,
    shape: ShapeConfig,
    config: TrainingConfig,
    num_threads: int,
    progress: Progress | None = None,
) -> tuple[LlamaForCausalLM, float]:
    """A model trained for one epoch on `corpus`, and the mean loss of its last steps in nats per token."""
    import torch

    encoded = [[ids[word] for word in document.split()] for document in corpus]
    batches = make_batches(encoded, config)
    with _torch_state(seed=config.seed, num_threads=num_threads):
        model = _new_model(ids, shape)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.peak_rate,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
            fused=True,
        )
        losses: list[float] = []
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, len(batches), config)
            losses.append(_train_step(model, optimizer, batch, pad=ids[PAD], max_norm=config.max_norm))
            if progress and ((step + 1) % _PROGRESS_EVERY == 0 or step + 1 == len(batches)):
                progress(step + 1, len(batches), losses[-1])
    tail = losses[-max(1, len(losses) // 20) :]
    return model, sum(tail) / len(tail)


def make_batches(encoded: Sequence[list[int]], config: TrainingConfig) -> list[list[list[int]]]:
    """Documents in batches of like length, at most `batch_tokens` with padding each, in shuffled order.

    A little noise on the length keeps neighbours from always being the same kind of document.
    """
    rng = random.Random(f"tracemend batches {config.seed}")
    order = sorted(encoded, key=lambda document: len(document) + rng.uniform(0, 6))
    batches: list[list[list[int]]] = []
    current: list[list[int]] = []
    width = 0
    for document in order:
        width = max(width, len(document))
        if current and width * (len(current) + 1) > config.batch_tokens:
            batches.append(current)
            current, width = [], len(document)
        current.append(document)
    batches.append(current)
    rng.shuffle(batches)
    return batches


def learning_rate(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine down to `final_share` of the peak."""
    warmup = max(1, round(config.warmup_share * num_steps))
    if step < warmup:
        return config.peak_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    floor = config.final_share
    return config.peak_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def _new_model(ids: dict[str, int], shape: ShapeConfig) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    # Llama and not Qwen2: for `model_type: qwen2` AutoTokenizer ignores the stored tokenizer class and builds a
    # byte-level one over the word vocabulary, without an error.
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(ids),
            hidden_size=shape.hidden,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_heads,
            intermediate_size=shape.mlp,
            max_position_embeddings=MAX_TOKENS,
            tie_word_embeddings=True,
            pad_token_id=ids[PAD],
            bos_token_id=None,
            eos_token_id=ids[END],
        )
    )


def _train_step(
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Sequence[int]],
    *,
    pad: int,
    max_norm: float,
) -> float:
    """One update. Shapes: B documents, T positions, V tokens."""
    import torch

    width = max(map(len, batch))
    rows = [[*document, *[pad] * (width - len(document))] for document in batch]
    tokens_bt = torch.tensor(rows)
    labels_bt = tokens_bt[:, 1:].masked_fill(tokens_bt[:, 1:] == pad, _IGNORED_LABEL)
    # Padding stands on the right of a causal model, so nothing that counts can see it and no mask is needed.
    logits_btv = model(input_ids=tokens_bt[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits_btv.flatten(0, 1), labels_bt.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return float(loss.item())


@contextlib.contextmanager
def _torch_state(*, seed: int, num_threads: int) -> Iterator[None]:
    """Seeds and thread count for the block; afterwards they are as they were."""
    import torch

    threads_before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # More threads than cores cost a multiple of what they bring.
        torch.set_num_threads(min(num_threads, os.cpu_count() or 1))
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
