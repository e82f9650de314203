"""No error about a URL repeats what may be a secret in it, whatever kind of URL it is and whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tracemend.kit.errors import SetupError
from tracemend.kit.urls import shown
from tracemend.runtime import opening

SECRET = "shibboleth"
OPENERS: list[Callable[[str], object]] = [
    opening.open_bus,
    opening.open_topic_keeper,
    opening.open_dead_letters,
    opening.open_store,
    opening.open_ledger,
    opening.open_server_tables,
]
URLS = [
    f"{scheme}{rest}"
    for scheme in ("mysql:", "kafak:", "")
    for rest in (f"//me:{SECRET}@host/base", f"me:{SECRET}@host:1", f"{SECRET}@host", f"//h/b?password={SECRET}")
]


@pytest.mark.parametrize("open_any", OPENERS, ids=lambda opener: opener.__name__)
@pytest.mark.parametrize("url", URLS)
def test_an_unknown_scheme_is_told_without_the_rest_of_its_url(open_any: Callable[[str], object], url: str) -> None:
    with pytest.raises(SetupError, match="unknown scheme") as told:
        open_any(url)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    ("open_any", "url"),
    [
        (opening.open_bus, f"kafka:me:{SECRET}@host:9092"),
        (opening.open_bus, f"kafka:me:{SECRET}@host"),
        (opening.open_bus, f"kafka:host:9092?password={SECRET}"),
        (opening.open_topic_keeper, f"kafka:host:1,me:{SECRET}@other:1"),
        (opening.open_dead_letters, f"kafka://me:{SECRET}@host:9092"),
        (opening.open_store, f"s3://me:{SECRET}@bucket"),
        (opening.open_store, f"s3:bucket?secret_key={SECRET}"),
        (opening.open_store, f"s3:bucket?endpoint=https://me:{SECRET}@host"),
        (opening.open_ledger, f"postgresql://me:{SECRET}@127.0.0.1:1/base"),
        (opening.open_server_tables, f"postgres://me:{SECRET}@127.0.0.1:1/base"),
        (opening.open_ledger, f"postgresql:me:{SECRET}@host"),
    ],
)
def test_a_mistake_in_a_known_scheme_is_told_without_secrets(open_any: Callable[[str], object], url: str) -> None:
    with pytest.raises(Exception, match=r"\S") as told:
        open_any(url)
    assert SECRET not in str(told.value)


def test_what_is_shown_of_a_url_without_secrets_is_the_url() -> None:
    assert shown("kafka:a:1,b:2") == "kafka:a:1,b:2"
    assert shown("postgresql://me:secret@host/base?x=y&z=a") == "postgresql:***@host/base?x=***&z=***"
