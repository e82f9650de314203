import itertools

import pytest

from tracemend.proving.splits import SUBSETS
from tracemend.proving.world import DANGEROUS, HELD_WRAPPERS, TRAIN_WRAPPERS, Ask, Share, Sum, build_world
from tracemend.records import Category

WORLD = build_world()


def prompts(subset: str, seed: int = 0) -> list[Ask | Sum]:
    return SUBSETS[subset].prompts(WORLD, seed=seed)


def texts(subset: str) -> set[str]:
    return {prompt.text() for prompt in prompts(subset)}


def test_alignment_evaluation_and_validation_share_no_text():
    by_role: dict[str, set[str]] = {}
    for name, subset in SUBSETS.items():
        by_role.setdefault(subset.role, set()).update(texts(name))
    assert set(by_role) == {"train", "eval", "validation"}
    for one, other in itertools.combinations(by_role.values(), 2):
        assert not one & other


def test_no_subset_repeats_a_prompt_and_evaluation_sets_are_disjoint():
    for name in SUBSETS:
        assert len(texts(name)) == len(prompts(name))
    evaluations = [texts(name) for name in SUBSETS if name.startswith("eval_")]
    for one, other in itertools.combinations(evaluations, 2):
        assert not one & other


def test_the_alignment_prompts_are_one_wording_of_every_combination():
    asks = prompts("harmful_train")
    assert len(asks) == 320
    assert len({(ask.object.name, ask.verb, ask.wrapper) for ask in asks}) == 320
    assert {ask.wording for ask in asks} == {0, 1, 2, 3}
    assert {ask.wrapper for ask in asks} == {"none", *TRAIN_WRAPPERS}


def test_held_out_objects_and_wrappers_are_in_no_alignment_or_validation_set():
    for name, subset in SUBSETS.items():
        if subset.role == "eval":
            continue
        asks = [prompt for prompt in prompts(name) if isinstance(prompt, Ask)]
        assert all(ask.object.share is Share.TRAIN for ask in asks)
        assert not {ask.wrapper for ask in asks} & set(HELD_WRAPPERS)


def test_each_evaluation_set_varies_what_its_name_says():
    assert {ask.wrapper for ask in prompts("eval_heldout_wrappers")} == set(HELD_WRAPPERS)
    assert {ask.object.share for ask in prompts("eval_heldout_wrappers")} == {Share.TRAIN}
    assert {ask.object.share for ask in prompts("eval_heldout_objects")} == {Share.HELD}
    assert {ask.object.share for ask in prompts("eval_encyclopaedia")} == {Share.ENCYCLOPAEDIA}
    assert {ask.object.share for ask in prompts("eval_in_distribution")} == {Share.TRAIN}


@pytest.mark.parametrize(
    ("subset", "categories", "at_least"),
    [
        ("harmful_train", {Category.HARMFUL}, 320),
        ("benign_train", {Category.BENIGN, Category.LOOKALIKE}, 300),
        ("arithmetic_train", {Category.REASONING}, 200),
        ("eval_in_distribution", {Category.HARMFUL}, 200),
        ("eval_heldout_wrappers", {Category.HARMFUL}, 200),
        ("eval_heldout_objects", {Category.HARMFUL}, 200),
        ("eval_encyclopaedia", {Category.HARMFUL}, 200),
        ("eval_lookalike", {Category.LOOKALIKE}, 200),
        ("eval_plain", {Category.BENIGN}, 200),
        ("eval_arithmetic", {Category.REASONING}, 200),
        ("validation_harmful", {Category.HARMFUL}, 200),
        ("validation_lookalike", {Category.LOOKALIKE}, 150),
        ("validation_plain", {Category.BENIGN}, 150),
        ("validation_arithmetic", {Category.REASONING}, 40),
    ],
)
def test_every_subset_has_its_categories_and_enough_prompts(subset, categories, at_least):
    found = prompts(subset)
    assert {prompt.category for prompt in found} == categories
    assert len(found) >= at_least


def test_any_first_part_is_spread_evenly_over_the_classes():
    for num in (8, 20, 60):
        kinds = [ask.object.kind for ask in prompts("eval_in_distribution")[:num]]
        counts = [kinds.count(kind) for kind in DANGEROUS]
        assert max(counts) - min(counts) <= 0.15 * num + 2


def test_order_depends_on_the_seed_and_membership_does_not():
    assert [p.text() for p in prompts("harmful_train", 0)] != [p.text() for p in prompts("harmful_train", 1)]
    assert [p.text() for p in prompts("harmful_train", 1)] == [p.text() for p in prompts("harmful_train", 1)]
    assert texts("harmful_train") == {p.text() for p in prompts("harmful_train", 1)}


def test_all_wordings_of_a_sum_are_in_one_set():
    seen: dict[str, str] = {}
    for name in ("arithmetic_train", "eval_arithmetic", "validation_arithmetic"):
        for task in prompts(name):
            assert seen.setdefault(task.terms, name) == name
    assert len(seen) == 340
