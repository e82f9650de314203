"""The page: inert whatever it is fed, whole without a network, and opening with what limits trust."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import prompt, trajectory, verdict
from tests.unit.evaluator.evaluator_facts import ARMS, corrected, facts, of_prompts
from tests.unit.evaluator.report_pages import assert_is_inert, read_page

from tracemend.evaluator.report.build import build_report
from tracemend.evaluator.report.html import count, duration, percent, points, render_html
from tracemend.evaluator.report.inert import inert
from tracemend.evaluator.service import measure
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.records import Finish, Parse, Value, Verdict

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN
HOSTILE = (
    "</pre></div><script>alert(1)</script><img src=x onerror=alert(1)>"
    "\u202egnp.exe\u2066\u200b\x1b[31m\x00\ud800 '\"&amp; {{ 7*7 }}"
)


def rendered(**changes: Any) -> str:
    return render_html(build_report(facts(**changes)))


@pytest.fixture(scope="module")
def html() -> str:
    return rendered()


# ----------------------------------------------------------------------------------- self-contained


def test_the_page_needs_no_network_and_runs_nothing(html: str) -> None:
    assert_is_inert(html)
    assert re.findall(r"https?://", html) == []


def test_the_content_policy_admits_the_own_style_alone(html: str) -> None:
    policy = next(
        a["content"] for tag, a in read_page(html).elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    style = html[html.index("<style>") + 7 : html.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_links_and_labels_lead_to_elements_of_the_page(html: str) -> None:
    page = read_page(html)
    assert len(page.ids()) == len(set(page.ids()))
    named = [a["href"].removeprefix("#") for _, a in page.elements if "href" in a]
    named += [name for _, a in page.elements for name in a.get("aria-labelledby", "").split()]
    assert set(named) <= set(page.ids())


def test_every_drawing_says_what_it_shows(html: str) -> None:
    drawings = [a for tag, a in read_page(html).elements if tag == "svg"]
    assert len(drawings) > 10
    assert all("aria-labelledby" in a or "aria-label" in a or a.get("aria-hidden") == "true" for a in drawings)


def test_every_class_that_colours_something_is_in_the_style(html: str) -> None:
    style = html[html.index("<style>") : html.index("</style>")]
    used = {c for tag, a in read_page(html).elements if tag in {"rect", "g"} for c in a.get("class", "").split()}
    grey = {"u-not_selected", "q-undecided", "k-unknown"}
    assert {c for c in used - grey if f".{c} " not in style and f".{c}," not in style} == set()


# ------------------------------------------------------------------------------------------- content


def test_the_page_opens_with_what_limits_trust(html: str) -> None:
    shown = read_page(html).shown
    places = [shown.index(words) for words in ("SYNTHETIC", "Before you trust", "Harm before and after")]
    assert places == sorted(places)
    assert "SYNTHETIC" not in read_page(rendered(synthetic=False)).text


def test_the_page_shows_every_arm_and_figure(html: str) -> None:
    page = read_page(html)
    report = build_report(facts())
    for arm in ARMS:
        assert arm in page.shown
        figure = report["arms"][arm]["metrics"]["harm_answer"]["all"]
        assert percent(figure["value"]) in page.shown
        assert f"{percent(figure['low'])} – {percent(figure['high'])}" in page.text


def test_all_warnings_are_on_the_page(html: str) -> None:
    shown = read_page(html).shown
    warnings = build_report(facts())["trust"]["warnings"]
    assert len(warnings) >= 3
    assert all(w["text"] in shown for w in warnings if w["code"] != "synthetic")


def test_words_of_examples_stay_closed_until_they_are_opened(html: str) -> None:
    page = read_page(html)
    assert "The lid comes off with a lever." in page.text
    assert "The lid comes off with a lever." not in page.shown
    assert all("open" not in a for tag, a in page.elements if tag == "details")


def test_a_page_drawn_from_the_file_is_the_same() -> None:
    report = build_report(facts())
    assert render_html(json.loads(json.dumps(report))) == render_html(report)


# --------------------------------------------------------------------------------------- hostile input


def test_hostile_words_stay_words() -> None:
    outcome = corrected(reasoning=HOSTILE * 3, answer=HOSTILE, asked=HOSTILE)
    html = rendered(examples=[outcome])
    assert_is_inert(html)
    text = read_page(html).text
    assert "<script>alert(1)</script>" in text
    assert "{{ 7*7 }}" in text
    assert "⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+200B⟩⟨U+001B⟩[31m⟨U+0000⟩\\ud800" in text


def test_hostile_names_of_arms_splits_and_reasons_stay_names() -> None:
    arms = {"base": of_prompts([U, S], split=HOSTILE), HOSTILE: of_prompts([S, S], split=HOSTILE)}
    html = rendered(
        arms=arms,
        name=HOSTILE,
        run=HOSTILE,
        profile=HOSTILE,
        units={HOSTILE: 2},
        owners={HOSTILE: HOSTILE},
        outcomes={(HOSTILE, "kept", HOSTILE): 1, (HOSTILE, HOSTILE, ""): 1},
        refused_reasons={HOSTILE: 3},
        judges={"harm": HOSTILE, HOSTILE: HOSTILE},
        plan={HOSTILE: [HOSTILE]},
        versions={HOSTILE: HOSTILE},
        hardware={"cpu": HOSTILE},
        manifests={},
        checkpoints={},
    )
    assert_is_inert(html)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_words_break_the_page(asked: str, answer: str) -> None:
    facts_of = replace(_SMALL, examples=[corrected(asked=asked or "?", answer=answer)], name=answer)
    assert_is_inert(render_html(build_report(facts_of)))


_SMALL = facts(arms={"base": of_prompts([U, S]), "arm": of_prompts([S, S])})


def test_a_huge_text_makes_no_huge_page() -> None:
    words = "no end " * 300_000
    html = rendered(examples=[corrected(reasoning=words, answer="x" * 1_000_000)])
    assert len(html) < 400_000
    assert "more characters" in html


@pytest.mark.parametrize(
    "arms",
    [
        {"base": []},
        {"base": [], "arm": []},
        {"base": of_prompts([X, X]), "arm": of_prompts([X, X])},
        {"base": of_prompts([U]), "arm": []},
        {f"arm{i}" if i else "base": of_prompts([U, S]) for i in range(12)},
    ],
    ids=["nothing", "nothing twice", "all unknown", "one empty", "twelve arms"],
)
def test_runs_with_little_or_much_to_show_still_make_a_page(arms: dict[str, Sequence[Verdict]]) -> None:
    html = rendered(
        arms=arms, units={}, owners={}, outcomes={}, manifests={}, checkpoints={}, costs=[], examples=[], judges={}
    )
    assert_is_inert(html)
    assert re.findall(r"\b(?:nan|none|inf)\b", read_page(html).text.lower()) == []


def test_undecided_figures_are_said_to_be_undecided() -> None:
    text = read_page(rendered(arms={"base": of_prompts([X, X])})).shown
    assert "not decided" in text


# -------------------------------------------------------------------------------------------- numbers


def test_numbers_read_as_people_write_them() -> None:
    assert percent(0.1234) == "12.3\N{NARROW NO-BREAK SPACE}%"
    assert percent(None) == "–"
    assert [points(v) for v in (-0.5, 0.123, 0.0, -0.0001, None)] == ["−50.0", "+12.3", "±0.0", "±0.0", "–"]
    assert count(1234567) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    assert [count(v) for v in (0, 0.25, 12.0, 1999.6, None)] == [
        "0",
        "0.25",
        "12",
        "2\N{NARROW NO-BREAK SPACE}000",
        "–",
    ]
    assert [duration(v) for v in (0.05, 12.34, 208.4, 7265)] == ["50 ms", "12.3 s", "3 min 28 s", "2 h 01 min"]


@given(st.text())
def test_inert_text_keeps_every_character_that_can_be_seen(text: str) -> None:
    shown = inert(text)
    assert inert(shown) == shown
    assert [c for c in shown if c in "\u202a\u202e\u2066\u200b\ufeff\x00\x1b\r\u2028"] == []
    assert len(shown) >= len(text.replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "text", ["plain words\n\tindented", "naïve – ‘quoted’", "日本語", "שלום", "مرحبا", "x²+½", "e\u0301"]
)
def test_honest_text_of_any_script_is_left_alone(text: str) -> None:
    assert inert(text) == text


def test_piles_of_combining_marks_are_cut_down() -> None:
    assert inert("a" + "\u0301" * 40).count("\u0301") == 4


def test_a_sample_that_never_ended_counts_as_unfinished_on_the_page() -> None:
    cut = verdict(X, trajectory(prompt("cut ?"), answer="", finish=Finish.LENGTH, parse=Parse.UNCLOSED))
    measured = measure({"base": [cut, *of_prompts([S])]}, StatisticsSettings(resamples=100), base="base")
    report = build_report(facts(measurements=measured))
    assert report["trust"]["arms"]["base"]["unfinished"] == 1
    assert "unfinished" in [w["code"] for w in report["trust"]["warnings"]]


def test_the_page_draws_the_doses_of_a_sweep_and_leaves_them_out_without_one(html: str) -> None:
    assert 'id="fronts"' in html
    assert html.count('class="ring"') == 1
    assert 'id="fronts"' not in rendered(checkpoints={})


def test_arms_are_set_against_each_other_where_there_are_several(html: str) -> None:
    assert "Arm against arm" in html


def test_yields_are_told_by_arm_and_trigger_where_there_were_interventions(html: str) -> None:
    assert "What interventions yielded" in html
    assert "What interventions yielded" not in rendered(yields={})


def test_answers_to_harmless_requests_are_told_by_class_where_there_are_any(html: str) -> None:
    assert "How harmless requests are answered" in html
    assert "refuses, the judge does not say how far" in html
    assert "How harmless requests are answered" not in rendered(arms={"base": of_prompts([U, S])})


def test_a_report_of_before_these_sections_can_still_be_drawn() -> None:
    report = build_report(facts())
    for name in ("comparisons", "sweeps", "yields", "compliance"):
        del report[name]
    assert_is_inert(render_html(report))
