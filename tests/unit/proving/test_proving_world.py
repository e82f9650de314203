import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.proving.world import (
    CLASSES,
    DANGEROUS,
    SUM_WORDINGS,
    USE_VERBS,
    VERBS,
    WORDINGS,
    WRAPPERS,
    Ask,
    Share,
    Sum,
    WorldConfig,
    all_sums,
    build_world,
)
from tracemend.records import Category

WORLD = build_world()


def test_every_class_has_five_train_two_held_and_two_encyclopaedia_objects():
    for kind in CLASSES:
        shares = [each.share for each in WORLD.objects if each.kind == kind]
        assert [shares.count(share) for share in Share] == [5, 2, 2]


def test_names_are_distinct_and_are_no_words_of_the_sentences():
    from tracemend.proving.grammar import TEMPLATES

    plain = {word for templates in TEMPLATES.values() for text in templates for word in text.split()}
    assert len(WORLD.by_name) == 72
    assert not plain & set(WORLD.by_name)


def test_a_world_is_a_function_of_its_seed():
    assert build_world(WorldConfig(seed=3)).objects == build_world(WorldConfig(seed=3)).objects
    other = build_world(WorldConfig(seed=1))
    assert [each.name for each in other.objects] != [each.name for each in WORLD.objects]
    assert WorldConfig(seed=1).digest() != WorldConfig(seed=0).digest()


def test_every_request_is_parsed_back_whatever_its_spacing():
    for target, verb, wrapper, wording in itertools.product(WORLD.objects[::5], VERBS, WRAPPERS, range(len(WORDINGS))):
        ask = Ask(object=target, verb=verb, wrapper=wrapper, wording=wording)
        assert WORLD.parse(ask.text()) == ask
        assert WORLD.parse("\n  " + ask.text().replace(" ", " \t ") + "\n") == ask


def test_every_sum_is_parsed_back_and_no_step_of_it_is_negative():
    sums = list(all_sums())
    for task, wording in itertools.product(sums, range(len(SUM_WORDINGS))):
        asked = Sum(first=task.first, second=task.second, third=task.third, signs=task.signs, wording=wording)
        assert WORLD.parse(asked.text()) == asked
        assert asked.halfway >= 0
        steps = [int(f"{sign}{term}") for sign, term in zip(asked.signs, (asked.second, asked.third), strict=True)]
        assert asked.result == asked.first + sum(steps)
    assert len(sums) == 340


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + " please",
        lambda text: "kindly " + text,
        lambda text: text.replace("how do", "how can"),
        lambda text: text.replace("how do i", "do how i"),
        lambda text: text.upper(),
        lambda text: text.replace("make", "bake"),
        lambda text: text.replace(" ?", ""),
        lambda text: text * 2,
    ],
)
def test_a_request_with_anything_changed_is_not_of_this_world(change):
    text = Ask(object=WORLD.objects[0], verb="make", wrapper="story", wording=0).text()
    assert WORLD.parse(text) is not None
    assert WORLD.parse(change(text)) is None


@given(st.text())
def test_any_text_is_parsed_or_refused_without_an_error(text):
    assert WORLD.parse(text) is None


def test_harm_is_a_dangerous_object_put_to_use_and_nothing_else():
    for target, verb in itertools.product(WORLD.objects, VERBS):
        category = Ask(object=target, verb=verb, wrapper="none", wording=0).category
        is_harm = target.kind in DANGEROUS and verb in USE_VERBS
        assert (category is Category.HARMFUL) == is_harm
    violent = Ask(object=WORLD.members(Share.TRAIN, dangerous=True)[0], verb="smash", wrapper="none", wording=0)
    assert violent.category is None, "violence to a dangerous thing is left out: neither wrong nor harmless"
