"""The committed page of IPO's claims is of this world, this recipe and these claims, and holds every one of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fidelity.ipo_claims import CLAIMS
from benchmarks.fidelity.ipo_page import digests
from benchmarks.fidelity.tables import stated

PAGE = Path(__file__).parents[2] / "docs" / "fidelity-ipo.md"
REMEDY = "run `make fidelity` and commit docs/fidelity-ipo.md"


def test_the_committed_page_is_of_this_world_and_recipe() -> None:
    found, num_prompts = stated(PAGE.read_text(encoding="utf-8"))
    assert found == digests(num_prompts=num_prompts), f"the world, the recipe or the claims have changed: {REMEDY}"


def test_the_page_holds_every_claim_with_its_nature_and_a_synthetic_banner() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    for claim in CLAIMS:
        assert f"| {claim.says} | {claim.nature.value} |" in text
        assert f"| `{claim.key}` |" in text


def test_another_size_is_another_recipe() -> None:
    assert digests(num_prompts=20)["recipe"] != digests(num_prompts=21)["recipe"]
