"""What a run file may say about its prompts: where they come from, and what is kept out.

Read by the embedded pipeline and by ingestion's faces. Options of plug-ins stand beside the plug-in's name and are
checked against its signature when the file is read, so that a misspelt one is refused before any work.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from tracemend.ingestion.filtering import filters
from tracemend.ingestion.rows import sources
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import Registry, did_you_mean
from tracemend.kit.settings import Section


class PromptsSettings(Section):
    """One item of the run file's `prompts:` list: `source: jsonl` and, beside it, that source's own options."""

    model_config = ConfigDict(extra="allow")

    source: str
    """Name of a prompt source: jsonl, csv, parquet, huggingface, preset, …"""

    @property
    def options(self) -> dict[str, Any]:
        """The source's options, as written."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _fits_the_source(self) -> PromptsSettings:
        _check(sources, self.source, self.options)
        return self


class IngestionSettings(Section):
    """What happens to rows before they are admitted as prompts."""

    max_chars: int = 32_768
    """Longer prompts are refused as `too_long`."""
    filters: dict[str, dict[str, Any] | bool] = Field(default_factory=dict)
    """Filter name to its options, or `false` to switch it off. What is not named keeps its defaults: exact_duplicates,
    near_duplicates, decontamination, in this order; others follow in the order in which they are named."""

    @field_validator("max_chars")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("must be at least 1")
        return value

    @field_validator("filters")
    @classmethod
    def _fit_the_filters(cls, value: dict[str, dict[str, Any] | bool]) -> dict[str, dict[str, Any] | bool]:
        for name, options in value.items():
            _check(filters, name, options if isinstance(options, dict) else {})
        return value

    def active_filters(self) -> dict[str, dict[str, Any]]:
        """The filters to apply and their options, in order."""
        asked = dict.fromkeys(DEFAULT_FILTERS, True) | self.filters
        return {
            name: options if isinstance(options, dict) else {}
            for name, options in asked.items()
            if options is not False
        }


DEFAULT_FILTERS = ("exact_duplicates", "near_duplicates", "decontamination")


def _check(registry: Registry[Any], name: str, options: Mapping[str, Any]) -> None:
    """`ValueError`, which pydantic reports with its place in the file, if the plug-in or one of its options is unknown,
    of the wrong type, or needed and missing."""
    try:
        plugin = registry.get(name)
    except SetupError as error:
        raise ValueError(str(error)) from None
    known = {p.name: p for p in inspect.signature(plugin).parameters.values() if p.kind is p.KEYWORD_ONLY}
    missing = [option for option, p in known.items() if p.default is p.empty and option not in options]
    if missing:
        raise ValueError(f"{registry.kind} '{name}' needs {', '.join(f'`{option}`' for option in missing)}")
    types = get_type_hints(plugin.__init__ if inspect.isclass(plugin) else plugin)
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{registry.kind} '{name}' has no option '{option}'{did_you_mean(option, list(known))}")
        try:
            TypeAdapter(types[option]).validate_python(value, strict=True)
        except ValidationError as error:
            problem = error.errors(include_input=False)[0]["msg"]
            raise ValueError(f"{registry.kind} '{name}', option '{option}': {problem}") from None
