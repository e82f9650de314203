"""Page tokens, names, etags and checks of fields."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rpc_service import Thing

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as ingestion
from tracemend.api.judge.v1 import judge_service_pb2 as judge
from tracemend.runtime.rpc.faults import Code, Fault, conflict, exhausted, precondition, read_fault, reason_code
from tracemend.runtime.rpc.names import check_etag, etag_of, format_name, parse_name
from tracemend.runtime.rpc.pages import MAX_SIZE, Pages, open_pages
from tracemend.runtime.rpc.validators import at_most, between, check, matching, named, required, within


def test_a_token_goes_on_where_its_page_ended_with_another_size() -> None:
    pages = Pages(b"key")
    token = pages.token(Thing(name="a", page_size=10), "place 7")
    assert pages.place(Thing(name="a", page_size=99, page_token=token)) == "place 7"
    assert (pages.token(Thing(name="a"), ""), pages.place(Thing(name="a"))) == ("", "")


def test_a_token_of_another_query_key_or_method_is_refused() -> None:
    token = Pages(b"key").token(Thing(name="a"), "place 7")
    outcomes = ingestion.ListOutcomesRequest(page_token=Pages(b"key").token(ingestion.ListRunsRequest(), "place 7"))
    for pages, request in (
        (Pages(b"key"), Thing(name="b", page_token=token)),
        (Pages(b"other"), Thing(name="a", page_token=token)),
        (Pages(b"key"), outcomes),
    ):
        with pytest.raises(Fault, match="page_token"):
            pages.place(request)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_an_invented_token_is_an_invalid_argument(token: str) -> None:
    if token:
        with pytest.raises(Fault, match="INVALID_FIELDS"):
            Pages(b"key").place(Thing(page_token=token))


@given(st.binary(min_size=1, max_size=60))
def test_a_token_that_is_forged_where_there_is_no_secret_is_a_place_or_an_invalid_argument(place: bytes) -> None:
    forged = Thing(name="a")
    tag = hmac.new(b"tracemend page tokens", signed(forged, place), "sha256").digest()[:16]
    forged.page_token = base64.urlsafe_b64encode(tag + place).decode().rstrip("=")
    try:
        expected = place.decode()
    except UnicodeDecodeError:
        with pytest.raises(Fault, match="page_token"):
            Pages().place(forged)
    else:
        assert Pages().place(forged) == expected


def signed(query: Thing, place: bytes) -> bytes:
    """What the tag of a token is made of; anybody can tell."""
    name = query.DESCRIPTOR.full_name.encode()
    return b"\0".join((name, place, query.SerializeToString(deterministic=True)))


def test_sizes_are_coerced_and_negative_ones_refused() -> None:
    sizes = [Pages().size(Thing(page_size=size), default=7) for size in (0, 1, 2**31 - 1)]
    assert sizes == [7, 1, MAX_SIZE]
    with pytest.raises(Fault, match="page_size"):
        Pages().size(Thing(page_size=-1))


def test_names_are_read_and_written_by_their_pattern() -> None:
    pattern = "runs/{run}/deadLetters/{letter}"
    assert parse_name("runs/a.b-c_9/deadLetters/X", pattern) == ("a.b-c_9", "X")
    assert format_name(pattern, "a", "b") == "runs/a/deadLetters/b"
    bad = ("runs/", "runs/a", "runs/a/deadLetters/..", "runs/a/b/deadLetters/c", "runs/é/deadLetters/b")
    for name in (*bad, "", "runs/a/deadLetters/b\n"):
        with pytest.raises(Fault) as refused:
            parse_name(name, pattern, field="parent")
        assert list(refused.value.violations) == ["parent"]


def test_an_old_etag_aborts_and_none_or_the_current_one_passes() -> None:
    check_etag("", etag_of("x", 1), name="runs/a")
    check_etag(etag_of("x", 1), etag_of("x", 1), name="runs/a")
    with pytest.raises(Fault) as refused:
        check_etag(etag_of("x", 1), etag_of("x", 2), name="runs/a")
    assert refused.value.code is Code.ABORTED
    assert etag_of("x", 1).startswith('"')


def test_rules_name_every_field_that_is_wrong() -> None:
    rules = check(
        required("name", "content"), between("number", 1, 5), matching("request_id", "[a-z]+"), at_most("name", 2)
    )
    wrong = dict(rules(Thing(number=9, request_id="A", name="abc")))
    assert set(wrong) == {"content", "number", "request_id", "name"}
    assert dict(rules(Thing(number=1, name="ab", content=b"x"))) == {}
    assert dict(named("name", "runs/{run}")(Thing(name="run"))) == {"name": "must be of the form runs/{run}"}


def test_rules_reach_into_messages_and_lists() -> None:
    request = judge.JudgeTrajectoriesRequest()
    request.trajectories.add(id="a").prompt.SetInParent()
    request.trajectories.add()
    rules = within("trajectories", check(required("id", "prompt"), within("prompt", required("text"))))
    assert set(dict(rules(request))) == {"trajectories[0].prompt.text", "trajectories[1].id", "trajectories[1].prompt"}


def test_not_a_number_is_outside_of_every_range() -> None:
    redrive = ingestion.RedriveDeadLettersRequest(rate_per_s=float("nan"))
    assert dict(between("rate_per_s", 0, 10)(redrive))


def test_details_follow_the_code() -> None:
    """AIP-193: quota failures and failed preconditions have messages of their own."""
    kinds = {
        exhausted("FULL", "later", retry_after_s=2): {"ErrorInfo", "RetryInfo"},
        precondition("STATE", "not now"): {"ErrorInfo"},
        conflict("runs/a", "changed"): {"ErrorInfo"},
        Fault("RESOURCE_EXHAUSTED", "FULL", "x", violations={"rows": "too many"}): {"ErrorInfo", "QuotaFailure"},
        Fault("FAILED_PRECONDITION", "STATE", "x", violations={"run": "paused"}): {"ErrorInfo", "PreconditionFailure"},
        Fault("INVALID_ARGUMENT", "BAD", "x", violations={"name": "empty"}): {"ErrorInfo", "BadRequest"},
    }
    for fault, expected in kinds.items():
        details = fault.to_status().details
        assert {detail.type_url.rpartition(".")[2] for detail in details} == expected


def test_reasons_are_constants() -> None:
    assert [reason_code(text) for text in ("not_utf8", "lost connection", "", "é!")] == [
        "NOT_UTF8",
        "LOST_CONNECTION",
        "UNSPECIFIED",
        "UNSPECIFIED",
    ]


def test_an_answer_of_something_else_on_the_way_is_read_as_far_as_it_goes() -> None:
    class Proxied:
        def code(self) -> Code:
            return Code.UNAVAILABLE

        def details(self) -> str:
            return "upstream reset"

        def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
            return (("grpc-status-details-bin", b"\xff\xff"),)

    assert (read_fault(Proxied()).code, read_fault(Proxied()).reason) == (Code.UNAVAILABLE, "UNAVAILABLE")


def test_pages_are_signed_with_the_secret_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    token = open_pages(tmp_path / "key").token(Thing(name="a"), "7")
    assert Pages(b"secret").place(Thing(name="a", page_token=token)) == "7"
    with pytest.raises(Fault):
        open_pages(None).place(Thing(name="a", page_token=token))
