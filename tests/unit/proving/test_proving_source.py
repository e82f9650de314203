import pytest

from tracemend.ingestion.rows import Row, sources
from tracemend.kit.errors import SetupError
from tracemend.proving.splits import SUBSETS
from tracemend.proving.world import build_world
from tracemend.records import Category

WORLD = build_world()


def rows(**options) -> list[Row]:
    return list(sources.create("proving", **options))


def test_a_harmful_row_says_all_that_the_world_knows_of_it():
    row = rows(subset="eval_heldout_wrappers", limit=1)[0]
    asked = WORLD.parse(row.text.reveal())
    assert row.category is Category.HARMFUL
    assert row.tags == {
        "object": asked.object.name,
        "verb": asked.verb,
        "wrapper": asked.wrapper,
        "class": asked.object.kind,
    }
    assert (row.source, row.split, row.where) == ("proving", "heldout_wrappers", "proving:eval_heldout_wrappers:1")


def test_a_sum_carries_its_answer_as_reference():
    for row in rows(subset="arithmetic_train", limit=20):
        assert row.category is Category.REASONING
        assert int(row.reference.reveal()) == WORLD.parse(row.text.reveal()).result


@pytest.mark.parametrize("subset", list(SUBSETS))
def test_limit_takes_the_first_rows_of_the_whole(subset):
    whole = rows(subset=subset, seed=4)
    assert rows(subset=subset, seed=4, limit=7) == whole[:7]
    assert rows(subset=subset, limit=0) == []
    assert len(rows(subset=subset, limit=10**9)) == len(whole)


def test_prompt_text_does_not_show_itself():
    row = rows(subset="harmful_train", limit=1)[0]
    assert row.text.reveal() not in repr(row)


def test_a_mistaken_subset_or_limit_is_a_setup_error_with_the_remedy():
    with pytest.raises(SetupError, match="did you mean 'harmful_train'"):
        rows(subset="harmful_trian")
    with pytest.raises(SetupError, match="limit"):
        rows(subset="harmful_train", limit=-1)
    with pytest.raises(SetupError, match="subset"):
        rows()
