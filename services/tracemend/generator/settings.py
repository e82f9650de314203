"""What may be configured of sampling the target."""

from __future__ import annotations

from pydantic import Field

from tracemend.kit.settings import Section
from tracemend.records import Sampling


class SamplingSettings(Section):
    """How tokens are drawn; the defaults are the ones that UnsafeChain's and IPO's evaluations share."""

    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(8192, gt=0)

    def record(self) -> Sampling:
        """The record that requests carry."""
        return Sampling(**self.model_dump())


class TargetSettings(Section):
    """The model that is to be mended."""

    model: str
    """Folder of the model (Hugging Face layout), or `proving:base` for the proving ground's own. `${NAME}` here and in
    `engine` stands for a variable of the environment, filled in when the model is opened."""
    engine: str = "transformers"
    """`transformers`, `vllm`, `openai:MODEL@URL` or `scripted:NAME`."""
    engine_options: dict[str, object] = Field(default_factory=dict)
    reasoning_format: str = "auto"
    """How the reasoning is marked: `auto` reads the tokenizer; `think`, `r1`, `qwen3` or `none` where there is none."""
    samples: int = Field(5, ge=1)
    """K samples per prompt: UnsafeChain and SafeChain use 5."""
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    system: str = ""
    """System prompt; none for R1 models (SafeChain's setting [R])."""
    revision: int = Field(0, ge=0)
    """Another number draws every sample anew, with other seeds; `run --from sample` adds one."""
