"""What may be configured of sampling the target."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from tracemend.kit.settings import SamplingSettings, Section

GuardMode: TypeAlias = Literal["off", "monitor", "enforce"]
GuardEnd: TypeAlias = Literal["refuse", "continue"]
GuardWatch: TypeAlias = Literal["reasoning", "all"]


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
    served_as: str = Field("", pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")
    """Name of the served target on a cluster, which its topics carry; left out, the last part of `model`."""


class GuardSettings(Section):
    """A guard over the target while it writes: no training, the same weights."""

    name: str = "cue_trigger"
    """A guard plug-in. Its detector is the run's `judge.detector`."""
    mode: GuardMode = "enforce"
    """`enforce`; `monitor` detects and counts and changes nothing; `off` does not look."""
    triggers: str | tuple[str, ...] = "safety"
    """The pool that the inserted sentences come from, or their ids in one: `safety/ID`."""
    options: dict[str, object] = Field(default_factory=dict)
    """The guard's own options; its module documents them."""
