"""Every pod that the chart makes, whatever the values: restricted, exact, and without rights that it needs not."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from tests.charts.chart_values import EXTERNAL, FULL, SETS, Manifest, containers, merged, one, pods, refused, rendered


@pytest.fixture(scope="module", params=SETS)
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(SETS[request.param])


def test_pods_are_restricted_and_their_roots_are_read_only(objects: list[Manifest]) -> None:
    assert list(pods(objects))
    for name, pod in pods(objects):
        whole = pod["spec"]["securityContext"]
        assert whole["runAsNonRoot"] is True, name
        assert whole["runAsUser"] > 0, name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"]), name
        for container in containers(pod):
            own = container["securityContext"]
            assert own == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_images_are_exact(objects: list[Manifest]) -> None:
    for name, pod in pods(objects):
        for container in containers(pod):
            assert re.search(r"(:[^/:@]+|@sha256:[0-9a-f]{64})$", container["image"]), name
            assert not container["image"].endswith(":latest"), name


def test_nobody_speaks_to_the_api_but_who_works_with_it(objects: list[Manifest]) -> None:
    bindings = [each for each in objects if each["kind"] == "RoleBinding"]
    bound = {subject["name"] for binding in bindings for subject in binding["subjects"]}
    assert bound <= {"t-tracemend-operator", "t-tracemend-trainer", "t-tracemend-evaluator"}
    for name, pod in pods(objects):
        has_rights = pod["spec"].get("serviceAccountName", "") in bound
        assert pod["spec"]["automountServiceAccountToken"] == has_rights, name
        assert pod["spec"]["enableServiceLinks"] is False, name
    for account in (each for each in objects if each["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_every_container_says_what_it_takes(objects: list[Manifest]) -> None:
    for name, pod in pods(objects):
        for container in containers(pod):
            asked = container["resources"]["requests"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(asked), name
            assert "memory" in container["resources"]["limits"], name


def test_mounts_have_volumes_and_lie_apart(objects: list[Manifest]) -> None:
    for name, pod in pods(objects):
        claims = {"data"} if name.startswith("StatefulSet") else set()
        volumes = [volume["name"] for volume in pod["spec"]["volumes"]]
        assert len(volumes) == len(set(volumes)), name
        for container in containers(pod):
            paths = [PurePosixPath(mount["mountPath"]) for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths)), name
            assert {mount["name"] for mount in container["volumeMounts"]} <= {*volumes, *claims}, name
            variables = [variable["name"] for variable in container.get("env", [])]
            assert len(variables) == len(set(variables)), name


def test_no_secret_is_written_out(objects: list[Manifest]) -> None:
    assert not [each for each in objects if each["kind"] == "Secret"]
    for name, pod in pods(objects):
        for container in containers(pod):
            for variable in container.get("env", []):
                is_secret = re.search("PASSWORD|SECRET|TOKEN$|LEDGER$", variable["name"])
                assert not is_secret or "valueFrom" in variable or variable["name"].endswith("_FILE"), name


def test_a_pod_has_longer_to_stop_than_its_process_takes(objects: list[Manifest]) -> None:
    import yaml

    from tracemend.runtime.program_settings import StopSettings

    for name, pod in pods(objects):
        served = [each for each in containers(pod) if (each.get("args") or [""])[0] == "serve"]
        for container in served:
            service = container["args"][1]
            (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == "settings")
            told = yaml.safe_load(one(objects, "ConfigMap", volume["configMap"]["name"])["data"]["settings.yaml"])
            stop = StopSettings(**told.get("stop", {}))
            waits_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            needed_s = waits_s + stop.finish_within_s + stop.close_within_s
            assert pod["spec"]["terminationGracePeriodSeconds"] > needed_s, (name, service)


def test_probes_have_their_three_meanings() -> None:
    objects = rendered(merged(EXTERNAL, services={"generator": {"startSeconds": 601}}))
    (container,) = one(objects, "Deployment", "t-tracemend-generator-small")["spec"]["template"]["spec"]["containers"]
    started, alive, ready = (container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert started["httpGet"]["path"] == ready["httpGet"]["path"] == "/readyz"
    assert started["periodSeconds"] * started["failureThreshold"] >= 601
    assert alive["httpGet"]["path"] == "/healthz", "an outage of Kafka restarts nobody"


def test_gpus_are_asked_for_where_they_are_used_and_bring_their_placement() -> None:
    objects = rendered(FULL)
    for name, number in (("t-tracemend-generator-large", "8"), ("t-tracemend-model-guard", "1")):
        spec = one(objects, "Deployment", name)["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["resources"]["requests"]["nvidia.com/gpu"] == number
        assert container["resources"]["limits"]["nvidia.com/gpu"] == number
        assert spec["nodeSelector"] == {"pool": "gpu"}
        assert spec["runtimeClassName"] == "nvidia"
        assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    judge = one(objects, "Deployment", "t-tracemend-judge")["spec"]["template"]["spec"]
    assert not {"nodeSelector", "tolerations", "runtimeClassName"} & set(judge)
    assert "nvidia.com/gpu" not in judge["containers"][0]["resources"]["limits"]


def test_another_vendor_s_gpus_go_by_their_own_name() -> None:
    objects = rendered(merged(EXTERNAL, gpu={"resource": "amd.com/gpu"}))
    (container,) = one(objects, "Deployment", "t-tracemend-generator-small")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["amd.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_one_registry_serves_every_image_and_a_digest_beats_a_tag() -> None:
    digest = "sha256:" + "a" * 64
    objects = rendered(merged(FULL, images={"services": {"digest": digest, "tag": "ignored"}}))
    images = {container["image"] for _, pod in pods(objects) for container in containers(pod)}
    ours = {image for image in images if "fetch" not in image}
    assert ours == {
        f"registry.example.com/mirror/tracemend@{digest}",
        "registry.example.com/mirror/tracemend-gpu:0.1.0",
    }


def test_only_pods_whose_settings_changed_roll() -> None:
    def sums(objects: list[Manifest]) -> dict[str, str]:
        deployments = [each for each in objects if each["kind"] == "Deployment"]
        return {
            each["metadata"]["name"]: each["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
            for each in deployments
        }

    before = sums(rendered(EXTERNAL))
    after = sums(rendered(merged(EXTERNAL, services={"judge": {"settings": {"concurrency": 64}}})))
    assert {name for name in before if before[name] != after[name]} == {"t-tracemend-judge"}


def test_each_service_may_have_secrets_of_its_own() -> None:
    objects = rendered(FULL)
    for name, secrets in (
        ("judge", {"judge-kafka", "judge-store", "judge-ledger"}),
        ("corrector", {"kafka", "store", "ledger"}),
    ):
        volumes = one(objects, "Deployment", f"t-tracemend-{name}")["spec"]["template"]["spec"]["volumes"]
        assert secrets <= {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}


def test_scratch_volumes_have_limits(objects: list[Manifest]) -> None:
    ours = {"more"}  # of the full values: who adds a volume limits it
    for name, pod in pods(objects):
        for volume in pod["spec"]["volumes"]:
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}) or volume["name"] in ours, (name, volume)


def test_each_kind_of_pod_has_scratch_space_of_the_size_that_is_asked_for() -> None:
    sizes = {"judge": "1Mi", "operator": "2Mi", "jobs": "3Mi"}
    asked = merged(
        FULL,
        services={"judge": {"scratchSize": sizes["judge"]}},
        operator={"scratchSize": sizes["operator"]},
        jobs={"scratchSize": sizes["jobs"], "folderClaim": "jobs"},
        modelServers=[{"name": "guard", "model": "/models/guard", "scratchSize": "4Mi"}],
    )
    objects = rendered(asked)
    found = {name: _scratch(pod) for name, pod in pods(objects)}
    assert found["Deployment t-tracemend-judge"] == {"folder": "1Mi", "tmp": "1Mi"}
    assert found["Deployment t-tracemend-operator"] == {"tmp": "2Mi"}
    assert found["PodTemplate t-tracemend-job"] == {"tmp": "3Mi", "shm": "16Gi"}
    assert found["Deployment t-tracemend-model-guard"] == {"tmp": "4Mi", "shm": "2Gi"}
    assert "scratchSize" in refused(merged(EXTERNAL, services={"judge": {"scratchSize": "much"}}))


def _scratch(pod: Manifest) -> dict[str, str]:
    return {
        each["name"]: each["emptyDir"].get("sizeLimit", "any") for each in pod["spec"]["volumes"] if "emptyDir" in each
    }


def test_replicas_prefer_different_hosts_and_are_spread_over_zones(objects: list[Manifest]) -> None:
    for each in (each for each in objects if each["kind"] == "Deployment"):
        spec, labels = each["spec"]["template"]["spec"], each["spec"]["selector"]["matchLabels"]
        if each["spec"].get("strategy") == {"type": "Recreate"}:
            continue  # the operator: one alone
        (term,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert term["podAffinityTerm"] == {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": labels},
        }
        spread = {rule["topologyKey"]: rule for rule in spec["topologySpreadConstraints"]}
        assert set(spread) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for rule in spread.values():
            assert rule["labelSelector"]["matchLabels"] == labels
            assert rule["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster of one host runs it too"


def test_an_affinity_of_one_s_own_takes_the_place_of_the_chart_s() -> None:
    own = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    objects = rendered(merged(EXTERNAL, services={"judge": {"affinity": own}}))
    assert one(objects, "Deployment", "t-tracemend-judge")["spec"]["template"]["spec"]["affinity"] == own
