"""Options of plug-ins: what a run file gives is checked by name and by type before the plug-in runs."""

from __future__ import annotations

from typing import Any

import pytest

from tracemend.kit.errors import SetupError
from tracemend.kit.registry import Registry

Words = tuple[str, ...]


def plugin(
    *,
    number: int = 1,
    share: float = 0.5,
    word: str = "w",
    switch: bool = False,
    maybe: int | None = None,
    words: Words = (),
) -> tuple[Any, ...]:
    return number, share, word, switch, maybe, words


@pytest.fixture
def registry() -> Registry[Any]:
    made: Registry[Any] = Registry("toy", package="tracemend.generator.guards", group="tracemend.none")
    made.register(plugin)
    return made


NAME = __name__.rsplit(".", 1)[-1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("number", "3"), ("number", 1.5), ("number", True), ("number", [1]), ("share", "half"), ("word", 5),
        ("word", None), ("switch", "yes"), ("maybe", "3"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_named_with_its_option(registry: Registry[Any], option: str, value: Any) -> None:
    with pytest.raises(SetupError, match=f"toy '{NAME}': option '{option}'"):
        registry.create(NAME, **{option: value})


def test_values_of_the_right_type_arrive_as_they_were_given(registry: Registry[Any]) -> None:
    given = {"number": 2, "share": 1, "word": "x", "switch": True, "maybe": None, "words": ["a", "b"]}
    assert registry.create(NAME, **given) == (2, 1, "x", True, None, ["a", "b"])


def test_an_unknown_option_is_answered_with_the_known_ones(registry: Registry[Any]) -> None:
    with pytest.raises(SetupError, match="number, share, word, switch, maybe, words"):
        registry.create(NAME, numbr=1)


def test_parts_that_are_put_in_are_not_among_the_options_of_a_user(registry: Registry[Any]) -> None:
    assert registry.compose(NAME, {"words": ("a",)}, {"number": 2}) == (2, 0.5, "w", False, None, ("a",))
    with pytest.raises(SetupError) as refused:
        registry.compose(NAME, {"words": ("a",)}, {"numbr": 1})
    assert str(refused.value).endswith("its options are number, share, word, switch, maybe")
