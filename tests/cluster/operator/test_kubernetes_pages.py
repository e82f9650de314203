"""What pods serve comes through the API server as it is."""

from __future__ import annotations

import pytest
from tests.needs import needs_kubernetes

from tracemend.cli.scraping import deployed
from tracemend.runtime.kubernetes import open_kubernetes


async def test_a_page_comes_whole_and_one_that_is_not_there_is_a_key_error() -> None:
    needs_kubernetes()
    api = open_kubernetes()
    try:
        assert await api.page("/healthz") == "ok"
        with pytest.raises(KeyError):
            await api.page("/api/v1/namespaces/default/pods/nobody:9090/proxy/metrics")
        nothing = await deployed(api, "no-such-namespace")
        assert (nothing.scrapes, nothing.jobs, dict(nothing.wanted)) == ((), (), {})
    finally:
        await api.aclose()
