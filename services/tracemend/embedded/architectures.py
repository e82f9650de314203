"""What memory and limits depend on in a model: its shape, from its config.json or, without a file, as published.

`resources`, the estimate and the run files' tests read it. Facts of the published models are those of their own
config.json; parameters are counted from the shape, so that a table and a folder can never disagree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder with grouped attention and a gated feed-forward, as Llama, Qwen2 and Qwen3 are."""

    model_type: str
    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab: int
    context: int
    """Positions that the model was made for."""
    tied: bool
    """Whether input and output embeddings are one matrix."""
    has_qkv_bias: bool = False
    num_experts: int = 0
    """Feed-forwards of a layer that tokens are routed among; where there are any, the weights are not counted right."""

    @property
    def num_parameters(self) -> int:
        """Weights, embeddings included."""
        per_layer = sum(rows * columns for rows, columns in self.linear_shapes().values())
        per_layer += 2 * self.hidden + self._num_small_attention_parameters
        return self.num_layers * per_layer + self.vocab * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def _num_small_attention_parameters(self) -> int:
        """Biases of query, key and value (Qwen2), or the norms of query and key (Qwen3)."""
        biases = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim if self.has_qkv_bias else 0
        return biases + (2 * self.head_dim if self.model_type == "qwen3" else 0)

    def kv_bytes_per_token(self, *, bytes_per_value: int = 2) -> int:
        """Bytes that one token takes in the key-value cache, over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of a layer's linear maps by the names that LoRA targets have."""
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "q_proj": (query, self.hidden),
            "k_proj": (key, self.hidden),
            "v_proj": (key, self.hidden),
            "o_proj": (self.hidden, query),
            "gate_proj": (self.intermediate, self.hidden),
            "up_proj": (self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
        }

    def num_lora_parameters(self, *, rank: int, targets: tuple[str, ...]) -> int:
        """Trainable weights of adapters of `rank` on the linear maps called `targets` (`all-linear`: on all)."""
        shapes = self.linear_shapes()
        chosen = shapes.values() if targets == ("all-linear",) else [shapes[name] for name in targets if name in shapes]
        return self.num_layers * sum(rank * (rows + columns) for rows, columns in chosen)


PUBLISHED: Mapping[str, Architecture] = {
    "DeepSeek-R1-Distill-Qwen-1.5B": Architecture(
        model_type="qwen2",
        hidden=1536,
        intermediate=8960,
        num_layers=28,
        num_heads=12,
        num_kv_heads=2,
        head_dim=128,
        vocab=151_936,
        context=131_072,
        tied=False,
        has_qkv_bias=True,
    ),
    "DeepSeek-R1-Distill-Qwen-7B": Architecture(
        model_type="qwen2",
        hidden=3584,
        intermediate=18_944,
        num_layers=28,
        num_heads=28,
        num_kv_heads=4,
        head_dim=128,
        vocab=152_064,
        context=131_072,
        tied=False,
        has_qkv_bias=True,
    ),
    "DeepSeek-R1-Distill-Llama-8B": Architecture(
        model_type="llama",
        hidden=4096,
        intermediate=14_336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        vocab=128_256,
        context=131_072,
        tied=False,
    ),
    "Qwen3-8B": Architecture(
        model_type="qwen3",
        hidden=4096,
        intermediate=12_288,
        num_layers=36,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        vocab=151_936,
        context=40_960,
        tied=False,
    ),
}
"""Name of the published model, which is its folder's name as downloaded, to its shape."""


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What configurations call the number of experts."""


def find_architecture(model: str | Path) -> Architecture | None:
    """The shape of the model in the folder `model`; without a folder, that of the published model of its name."""
    folder = path_of(model)
    if (folder / "config.json").is_file():
        return read_architecture(folder)
    return PUBLISHED.get(folder.name)


def read_architecture(folder: Path) -> Architecture:
    """The shape that a model folder's config.json states; a `SetupError` where it does not state one."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _of_config(config.get("text_config", config))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise SetupError(f"{path} does not state the shape of a decoder ({type(error).__name__}: {error})") from None


def _of_config(config: Mapping[str, Any]) -> Architecture:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    model_type = str(config["model_type"])
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        intermediate=int(config["intermediate_size"]),
        num_layers=int(config["num_hidden_layers"]),
        num_heads=heads,
        num_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        vocab=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        has_qkv_bias=bool(config.get("attention_bias", model_type == "qwen2")),
        num_experts=next((int(config[name]) for name in _EXPERTS if config.get(name)), 0),
    )
