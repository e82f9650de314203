"""Who may speak to whom, and what is scaled by what: the chart's network policies, scalers and Kafka rights, against
what the code reads and calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.charts.chart_values import DEV, EXTERNAL, FULL, SETS, STRIMZI, Manifest, merged, one, pods, rendered

from tracemend.corrector.stage import CorrectorStage
from tracemend.judge.stage import JudgeStage
from tracemend.topics import CONTINUATIONS, GENERATIONS, GROUPS, REWRITES, TRAJECTORIES, VERDICTS, for_target

GENERATION_PARTITIONS = GENERATIONS.partitions


def policies(objects: list[Manifest]) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes a pod with `labels`."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def allowed(objects: list[Manifest], labels: Mapping[str, str]) -> set[int]:
    """Ports that a pod with `labels` may call, beside names."""
    return {
        port["port"]
        for spec in policies(objects).values()
        if "Egress" in spec["policyTypes"] and selects(spec["podSelector"], labels)
        for rule in spec["egress"]
        for port in rule.get("ports", [])
    } - {53}


@pytest.mark.parametrize("values", SETS)
def test_every_pod_is_denied_whatever_is_not_named(values: str) -> None:
    objects = rendered(SETS[values])
    deny = policies(objects)["t-tracemend-default-deny"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert deny["ingress"] == []
    assert {port["port"] for rule in deny["egress"] for port in rule["ports"]} == {53}
    for name, pod in pods(objects):
        assert selects(deny["podSelector"], pod["metadata"]["labels"]), name


def test_each_component_reaches_what_it_works_with_and_nothing_else() -> None:
    objects = rendered(EXTERNAL)
    found = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: allowed(objects, pod["metadata"]["labels"])
        for _, pod in pods(objects)
    }
    kafka, store, ledger, api, grpc = {9094}, {443}, {5432}, {443, 6443}, {8443, 8444}
    assert found == {
        "ingestion": kafka | store | ledger | grpc,
        "generator": kafka | store | ledger | grpc,
        "judge": kafka | store | ledger | grpc,
        "corrector": kafka | store | ledger | grpc,
        "trainer": kafka | store | ledger | grpc | api,
        "evaluator": kafka | store | ledger | grpc | api,
        "operator": ledger | api,
        "setup": kafka | store | ledger,
        "job": store | ledger,
        "test": grpc,
    }


def test_servers_outside_are_where_the_values_say_and_endpoints_only_where_they_are_listed() -> None:
    found = policies(rendered(FULL))
    assert found["t-tracemend-to-kafka"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    assert found["t-tracemend-to-store"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.2.0.0/16"}}]
    teacher = found["t-tracemend-egress-teacher"]
    assert teacher["podSelector"]["matchExpressions"][0]["values"] == ["corrector"]
    assert teacher["egress"] == [
        {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
    ]


def test_servers_of_dev_mode_take_calls_from_the_release_alone() -> None:
    found = policies(rendered(DEV))
    for server, port in (("kafka", 9092), ("minio", 9000), ("postgresql", 5432)):
        (rule,) = found[f"t-tracemend-dev-{server}"]["ingress"]
        assert [each["port"] for each in rule["ports"]] == [port]
        assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "t"


def test_policies_can_be_left_out() -> None:
    assert not policies(rendered(merged(EXTERNAL, networkPolicy={"enabled": False})))


def test_services_point_at_pods_and_at_ports_that_these_open() -> None:
    for values in SETS.values():
        objects = rendered(values)
        found = list(pods(objects))
        for service in (each for each in objects if each["kind"] == "Service"):
            behind = [
                pod
                for _, pod in found
                if selects({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
            ]
            assert behind, service["metadata"]["name"]
            opened = {
                port["name"] for pod in behind for each in pod["spec"]["containers"] for port in each.get("ports", [])
            }
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= opened


# ---------------------------------------------------------------------------------------------- scaling


def test_scalers_look_at_the_groups_and_topics_that_services_read() -> None:
    objects = rendered(FULL)
    found = {
        each["metadata"]["name"]: {
            (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) for trigger in each["spec"]["triggers"]
        }
        for each in objects
        if each["kind"] == "ScaledObject"
    }

    def reads(group: str, *topics: str) -> set[tuple[str, str]]:
        return {(f"team.{group}.{topic}", f"team.{topic}") for topic in topics}

    assert JudgeStage.inputs.fget(None) == (TRAJECTORIES,)  # type: ignore[attr-defined]  # a property that needs no self
    assert CorrectorStage.inputs.fget(None) == (VERDICTS, GROUPS)  # type: ignore[attr-defined]  # likewise
    generators = {
        f"t-tracemend-generator-{target}": reads(
            f"generator-{target}", for_target(GENERATIONS, target), for_target(CONTINUATIONS, target)
        )
        for target in ("small", "large")
    }
    assert found == {
        "t-tracemend-judge": reads("judge", TRAJECTORIES.name),
        "t-tracemend-corrector": reads("corrector", VERDICTS.name, GROUPS.name) | reads("teacher", REWRITES.name),
        **generators,
    }


def test_scalers_go_to_nothing_without_being_fooled() -> None:
    objects = rendered(FULL)
    for each in (each for each in objects if each["kind"] == "ScaledObject"):
        spec = each["spec"]
        assert spec["minReplicaCount"] == 0
        assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["policies"][0]["value"] == 1
        for trigger in spec["triggers"]:
            told = trigger["metadata"]
            assert told["offsetResetPolicy"] == "earliest"
            assert told["excludePersistentLag"] == told["scaleToZeroOnInvalidOffset"] == "false"
            assert told["version"]
            assert trigger["authenticationRef"]["name"]
            assert not {"username", "password"} & set(told)
        target = one(objects, "Deployment", spec["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "the scaler owns them"
    assert GENERATION_PARTITIONS >= 48, "what the chart refuses more replicas than"


def test_without_scalers_replicas_are_the_values_own() -> None:
    objects = rendered(merged(FULL, autoscaling={"enabled": False}))
    assert not [each for each in objects if each["kind"] == "ScaledObject"]
    assert one(objects, "Deployment", "t-tracemend-generator-small")["spec"]["replicas"] == 0
    assert one(objects, "Deployment", "t-tracemend-generator-large")["spec"]["replicas"] == 2


def test_members_of_a_shared_pool_carry_its_label_on_what_owns_their_replicas() -> None:
    def members(**changes: Any) -> set[tuple[str, str]]:
        return {
            (each["kind"], each["metadata"]["name"].removeprefix("t-tracemend-"))
            for each in rendered(merged(FULL, **changes))
            if each["metadata"].get("labels", {}).get("tracemend.dev/gpu-pool") == "shared"
        }

    assert members() == {
        ("ScaledObject", "generator-small"),
        ("ScaledObject", "generator-large"),
        ("Deployment", "model-guard"),
    }
    assert ("Deployment", "generator-large") in members(autoscaling={"enabled": False})
    assert members(gpu={"pool": "dedicated"}) == set()


def test_budgets_protect_what_has_replicas_and_block_no_drain_of_what_has_one() -> None:
    budgets = {
        each["metadata"]["name"]: each["spec"] for each in rendered(EXTERNAL) if each["kind"] == "PodDisruptionBudget"
    }
    assert set(budgets) == {"t-tracemend-ingestion"}
    assert budgets["t-tracemend-ingestion"]["maxUnavailable"] == 1
    assert budgets["t-tracemend-ingestion"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


# ---------------------------------------------------------------------------------------------- rights


def test_the_operator_has_no_wildcard_and_no_secret() -> None:
    for role in (each for each in rendered(FULL) if each["kind"] in ("Role", "ClusterRole")):
        assert role["kind"] == "Role"
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert "secrets" not in rule["resources"]


def test_only_a_shared_pool_lets_the_operator_scale() -> None:
    def scales(**changes: Any) -> bool:
        role = one(rendered(merged(FULL, **changes)), "Role", "t-tracemend-operator")
        return any("deployments" in rule["resources"] for rule in role["rules"])

    assert scales()
    assert not scales(gpu={"pool": "dedicated"})


def test_each_service_has_a_kafka_user_that_reads_as_its_own_groups() -> None:
    objects = rendered(STRIMZI)
    users = {
        each["metadata"]["name"]: each["spec"]["authorization"]["acls"]
        for each in objects
        if each["kind"] == "KafkaUser"
    }
    assert len(users) == 7
    judge = {
        (acl["resource"]["type"], acl["resource"].get("name")): acl["operations"] for acl in users["t-tracemend-judge"]
    }
    assert judge["group", "team.judge"] == ["Read", "Describe"]
    assert "Create" not in judge["topic", "team.tracemend."]
    assert ("group", "team.corrector") not in judge
    deployment = one(objects, "Deployment", "t-tracemend-judge")["spec"]["template"]["spec"]
    environ = {each["name"]: each.get("value") for each in deployment["containers"][0]["env"]}
    assert environ["KAFKA_SASL_USERNAME"] == "t-tracemend-judge"
    secrets = {volume["secret"]["secretName"] for volume in deployment["volumes"] if "secret" in volume}
    assert {"t-tracemend-judge", "t-tracemend-cluster-ca-cert"} <= secrets


def test_weights_are_checked_before_they_count_and_never_run() -> None:
    (hydrate,) = (each for each in rendered(FULL) if "hydrate" in each["metadata"]["name"])
    (check,) = hydrate["spec"]["template"]["spec"]["containers"]
    assert "sha256sum --check --strict" in check["args"][0]
    assert "*.pkl" in check["args"][0]


def test_models_are_mounted_read_only_from_a_claim_or_an_image() -> None:
    volumes = one(rendered(FULL), "PodTemplate", "t-tracemend-job")["template"]["spec"]["volumes"]
    found = {volume["name"]: volume for volume in volumes}
    assert found["model-base"]["persistentVolumeClaim"] == {"claimName": "base", "readOnly": True}
    assert found["model-guard"]["image"]["reference"].startswith("registry.example.com/guard@sha256:")
