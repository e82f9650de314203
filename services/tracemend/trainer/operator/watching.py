"""What happens to runs and their Jobs, told to the desk as it happens: the watches, which kopf keeps open.

kopf renews them, reads everything again where one has expired and authenticates; nothing else of it is used: what was
handled lies in the resources' own status, no annotation and no peering is needed, and every decision is the desk's. A
lost event costs no more than the wait for the desk's next look at everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tracemend.trainer.operator.cluster import PLURALS
from tracemend.trainer.operator.desk import RunKey
from tracemend.trainer.operator.manifests import GROUP, RUN_LABEL, VERSION

_SERVER_ENDS_S = 300
"""The API server ends a watch after so long (it takes whole seconds); one that died in silence ends soon after."""


async def watch(namespace: str, *, tell: Callable[[RunKey], None]) -> None:
    """Call `tell` for every event about a run of `namespace`, or about a Job of one, for ever."""
    import kopf
    from kopf._core.engines.peering import Identity

    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> Any:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    def run_event(body: Mapping[str, Any], **_: Any) -> None:
        tell(RunKey(body["kind"], namespace, body["metadata"]["name"]))

    for plural in PLURALS.values():
        kopf.on.event(GROUP, VERSION, plural, registry=registry)(run_event)

    @kopf.on.event("batch", "v1", "jobs", labels={RUN_LABEL: kopf.PRESENT}, registry=registry)
    def job_event(body: Mapping[str, Any], **_: Any) -> None:
        for owner in body["metadata"].get("ownerReferences", []):
            if owner["kind"] in PLURALS:
                tell(RunKey(owner["kind"], namespace, owner["name"]))

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # custom resources do not come and go while it runs
    settings.watching.server_timeout = _SERVER_ENDS_S
    settings.watching.client_timeout = _SERVER_ENDS_S + 30
    settings.watching.connect_timeout = 10.0
    settings.networking.request_timeout = 30.0
    stop = asyncio.Event()
    try:
        await kopf.operator(
            registry=registry,
            settings=settings,
            identity=Identity("operator"),  # without peers it is never told; kopf's own guess needs a user with a name
            namespaces=[namespace],
            standalone=True,
            stop_flag=stop,
        )
    finally:
        stop.set()
