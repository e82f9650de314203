"""Trigger pools are data, and what is not a pool is refused with what to change."""

from pathlib import Path

import pytest

from tracemend.corrector.triggers import TriggerKind, find_triggers, pool, pools
from tracemend.kit.errors import SetupError
from tracemend.proving.grammar import TEMPLATES, Kind
from tracemend.traces.segmentation import segment


def test_the_shipped_pools_are_found_wherever_their_package_is() -> None:
    assert pools() == ("neutral", "proving", "proving_neutral", "safety")


def test_there_are_six_safety_triggers_and_as_many_of_the_control() -> None:
    assert len(pool("safety")) == len(pool("neutral")) == 6
    assert {trigger.kind for trigger in pool("safety")} == {TriggerKind.SAFETY}
    assert {trigger.kind for trigger in pool("neutral")} == {TriggerKind.NEUTRAL}


@pytest.mark.parametrize("name", ["safety", "neutral", "proving", "proving_neutral"])
def test_a_trigger_is_one_sentence(name: str) -> None:
    """A detector sees the trigger as one step, so no cue can lie inside it."""
    for trigger in pool(name):
        assert len(segment(trigger.text)) == 1, trigger.id
        assert trigger.pool == name


def test_safety_and_control_sentences_have_like_lengths() -> None:
    words = {name: sum(len(t.text.reveal().split()) for t in pool(name)) for name in ("safety", "neutral")}
    assert 0.75 < words["neutral"] / words["safety"] < 1.35


@pytest.mark.parametrize(("name", "kind"), [("proving", Kind.TRIGGER), ("proving_neutral", Kind.NEUTRAL)])
def test_the_proving_grounds_pools_are_the_worlds_own_sentences_in_order(name: str, kind: Kind) -> None:
    assert tuple(trigger.text.reveal() for trigger in pool(name)) == TEMPLATES[kind]


def test_triggers_are_picked_by_pool_and_id() -> None:
    picked = find_triggers(["proving/stop", "safety/decline"])
    assert [(trigger.pool, trigger.id) for trigger in picked] == [("proving", "stop"), ("safety", "decline")]


def test_a_file_of_ones_own_is_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "mined.yaml"
    path.write_text("- {id: a, text: ' stop  here ', num_prompts: 3}\n- {id: b, kind: neutral, text: go on}\n")
    first, second = pool(str(path))
    assert (first.id, first.text.reveal(), first.kind, first.pool) == ("a", "stop here", TriggerKind.SAFETY, "mined")
    assert second.kind is TriggerKind.NEUTRAL
    assert find_triggers([f"{path}/b"]) == (second,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not an empty one"),
        ("[]", "not an empty one"),
        ("id: a", "is a list"),
        ("- stop here", "entry 1 needs `id` and `text`"),
        ("- {id: a, text: x}\n- {id: b}", "entry 2 needs"),
        ("- {id: a, text: ' '}", "the text is empty"),
        ("- {id: a, kind: safty, text: x}", "did you mean 'safety'"),
        ("- {id: a, text: x}\n- {id: a, text: y}", "more than one is called a"),
        ("- {id: a, text: 'x", "cannot be read"),
    ],
)
def test_what_is_no_pool_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(content)
    with pytest.raises(SetupError, match=message):
        pool(str(path))


def test_unknown_names_come_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="did you mean 'safety'"):
        pool("safty")
    with pytest.raises(SetupError, match="no trigger pool at"):
        pool(str(tmp_path / "none.yaml"))
    with pytest.raises(SetupError, match="no trigger 'declin' in pool 'safety'; did you mean 'decline'"):
        find_triggers(["safety/declin"])
    with pytest.raises(SetupError, match="POOL/ID"):
        find_triggers(["decline"])
