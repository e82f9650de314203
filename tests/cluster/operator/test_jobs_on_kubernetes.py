"""A run whose last part is a TrainingRun: the trainer asks, the operator runs it, a pod does it, the run is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cluster.operator.kubelet import Kubelet
from tests.cluster.operator.sites import NOBODY, Site, open_site, operator
from tests.cluster.runs_compared import embedded, facts_of_run, null_run
from tests.cluster.spine import Spine

from tracemend.kit.run_states import RunState

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


def pod_template(spine: Spine) -> dict[str, object]:
    """What the chart renders: everything that all jobs share."""
    told = {
        "TRACEMEND_STORE": spine.store,
        "TRACEMEND_LEDGER": spine.ledger,
        "TRACEMEND_FOLDER": str(spine.folder / "pods"),
        "OMP_NUM_THREADS": "1",
    }
    env = [{"name": name, "value": value} for name, value in told.items()]
    container = {"name": "job", "image": "x", "command": ["python", "-m", "tracemend.programs.job_pod"], "env": env}
    inside = {"schedulerName": NOBODY, "containers": [container]}
    return {"metadata": {"name": "job"}, "template": {"spec": inside}}


async def test_a_run_ends_by_a_pod_that_is_killed_once_and_as_in_one_process(site: Site, tmp_path: Path) -> None:
    settings = null_run(limit=40)
    expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path / "cache")
    async with Spine.on_servers(
        tmp_path, TRACEMEND_JOBS_ON="kubernetes", TRACEMEND_PODS_NAMESPACE=site.namespace
    ) as spine:
        await site.api.call("DELETE", f"/api/v1/namespaces/{site.namespace}/podtemplates/job")
        await site.api.call("POST", f"/api/v1/namespaces/{site.namespace}/podtemplates", body=pod_template(spine))
        kubelet = Kubelet(api=site.api, namespace=site.namespace, folder=tmp_path / "kubelet")
        running = asyncio.create_task(kubelet.work())
        try:
            with operator(site, tmp_path, ledger=spine.ledger):
                spine.start_all()
                run = await spine.submit(settings)
                while not kubelet.processes:
                    assert not running.done(), running.result()
                    await asyncio.sleep(0.02)
                next(iter(kubelet.processes.values())).kill()
                await spine.wait_until(run, RunState.DONE, within_s=200)
        except AssertionError as error:
            log = (tmp_path / "operator.log").read_text()[-3000:]
            raise AssertionError(f"{error}\n--- operator\n{log}\n--- pods\n{kubelet.log()}") from error
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert await facts_of_run(spine.workspace, run) == expected
        (job,) = await spine.tables.jobs.page(run=run)
        listed = await site.api.call("GET", site.path("TrainingRun"))
    assert listed is not None
    (resource,) = listed["items"]
    assert resource["spec"]["job"] == job.key
    assert resource["status"]["phase"] == "Succeeded"
    assert len(kubelet.processes) == resource["status"]["attempt"] == 2, "the killed one, and the one that did it"
