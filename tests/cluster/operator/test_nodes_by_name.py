"""Real pods of a run on several nodes find the first one by the name that the operator gives them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest
from tests.cluster.operator.sites import Site, open_site

from tracemend.kit.server_ports import Conflict

IMAGE = os.environ.get("TRACEMEND_CLUSTER_IMAGE", "localhost/tracemend:0.1.0")
MEET = """
import os, socket, time
host, port = os.environ["TRACEMEND_JOB_RENDEZVOUS"].rsplit(":", 1)
if os.environ["JOB_COMPLETION_INDEX"] == "0":
    others = socket.create_server(("", int(port)))
    others.settimeout(120)
    connection, address = others.accept()
    connection.sendall(b"met")
else:
    time.sleep(2)  # as a training does: the first node calls before anybody looks for it
    for _ in range(100):
        try:
            with socket.create_connection((host, int(port)), timeout=2) as connection:
                assert connection.recv(3) == b"met"
                break
        except OSError:
            time.sleep(1)
    else:
        raise SystemExit("nobody is at " + host)
"""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


async def needs_image(site: Site) -> None:
    listed = await site.api.call("GET", "/api/v1/nodes")
    assert listed is not None
    images = [image for node in listed["items"] for image in node["status"].get("images", [])]
    if not any(IMAGE in (image.get("names") or []) for image in images):
        reason = f"needs {IMAGE} on a node, or the image that TRACEMEND_CLUSTER_IMAGE names: `make images`, and load it"
        if "cluster-image" in os.environ.get("TRACEMEND_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.timeout(300)
async def test_pods_of_two_nodes_meet_by_the_headless_service(site: Site) -> None:
    await needs_image(site)
    container = {"name": "job", "image": IMAGE, "imagePullPolicy": "Never", "command": ["python", "-c", MEET]}
    container["resources"] = {"requests": {"cpu": "10m", "memory": "32Mi"}}
    inside = {"schedulerName": None, "containers": [container], "terminationGracePeriodSeconds": 1}
    path = f"/api/v1/namespaces/{site.namespace}/podtemplates/job"
    await site.api.call("PATCH", path, body={"template": {"spec": inside}})
    key = await site.create("a", nodes=2, maxFailures=1)
    await site.until(key, "Running")
    for _ in range(200):
        await asyncio.sleep(1)
        with contextlib.suppress(Conflict):  # the Job controller writes as well
            await site.desk().look(key)
        status = await site.status(key)
        if status["phase"] in ("Succeeded", "Failed"):
            break
    assert (status["phase"], status["attempt"]) == ("Succeeded", 1), status
