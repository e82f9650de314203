"""Each template by itself: what it makes, what makes that disappear, and what it refuses. A template without an entry
fails, so nobody forgets one; what the objects say is tested elsewhere, by subject."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from tests.charts.chart_values import CHART, DEV, EXTERNAL, FULL, STRIMZI, Values, merged, refused, template

Change = Mapping[str, Any]
OUTSIDE: Change = {"mode": "external", "bootstrapServers": "k:9094"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A template: with `values` it makes objects of `kinds`."""

    values: Values
    kinds: set[str]
    wrong: Change
    """Is refused, with `words`."""
    words: str
    without: Change = field(default_factory=dict)
    """Makes those objects disappear, and no other, whose `KIND NAME` the expression `gone` finds."""
    gone: str = ""


CASES: Mapping[str, Case] = {
    "accounts.yaml": Case(
        values=FULL,
        kinds={"ServiceAccount", "Role", "RoleBinding"},
        without={"operator": {"enabled": False}},
        gone="^Role|operator$",
        wrong={"gpu": {"pool": "ours"}},
        words="/gpu/pool",
    ),
    "autoscaling.yaml": Case(
        values=FULL,
        kinds={"ScaledObject", "TriggerAuthentication"},
        without={"autoscaling": {"enabled": False}},
        wrong={"services": {"judge": {"minReplicas": 9}}},
        words="services.judge: minReplicas is above maxReplicas",
    ),
    "configmaps.yaml": Case(
        values=EXTERNAL,
        kinds={"ConfigMap"},
        without={"targets": []},
        gone="generator",
        wrong={"settings": "rpc: {}"},
        words="/settings",
    ),
    "crds.yaml": Case(
        values=EXTERNAL,
        kinds={"CustomResourceDefinition"},
        without={"crds": {"install": False}},
        wrong={"crds": {"keep": False}},
        words="keep",
    ),
    "dev-servers.yaml": Case(
        values=DEV,
        kinds={"StatefulSet", "Service"},
        without={"store": {"mode": "external", "endpoint": "https://s3"}, "postgresql": {"mode": "external"}},
        wrong={"unsafeDev": False},
        words="store.mode dev, postgresql.mode dev: one copy of everything, for trying things out; say so by unsafeDev",
    ),
    "disruption.yaml": Case(
        values=EXTERNAL,
        kinds={"PodDisruptionBudget"},
        without={"podDisruptionBudgets": False},
        wrong={"podDisruptionBudgets": 1},
        words="/podDisruptionBudgets",
    ),
    "job-template.yaml": Case(
        values=EXTERNAL,
        kinds={"PodTemplate"},
        without={"operator": {"enabled": False}},
        wrong={"jobs": {"nodes": 2}},
        words="name a ReadWriteMany claim in jobs.folderClaim",
    ),
    "kafka.yaml": Case(
        values=STRIMZI,
        kinds={"Kafka", "KafkaNodePool", "KafkaUser"},
        without={"kafka": OUTSIDE | {"existingSecret": "kafka"}},
        wrong={"kafka": {"strimzi": {"replicas": 0}}},
        words="/kafka/strimzi/replicas",
    ),
    "models.yaml": Case(
        values=FULL,
        kinds={"Job", "Deployment", "Service"},
        without={"modelServers": []},
        gone="^(Deployment|Service) ",
        wrong={"models": []},
        words="modelServers 'guard': /models/guard lies in none of models",
    ),
    "monitoring/dashboards.yaml": Case(
        values=FULL,
        kinds={"ConfigMap"},
        without={"monitoring": {"dashboards": {"enabled": False}}},
        wrong={"monitoring": {"dashboards": {"labels": {"grafana_dashboard": 1}}}},
        words="/monitoring/dashboards/labels/grafana_dashboard",
    ),
    "monitoring/pod-monitors.yaml": Case(
        values=FULL,
        kinds={"PodMonitor"},
        without={"monitoring": {"podMonitor": {"enabled": False}}},
        wrong={"monitoring": {"podMonitors": {"enabled": True}}},
        words="podMonitors",
    ),
    "monitoring/rules.yaml": Case(
        values=FULL,
        kinds={"PrometheusRule"},
        without={"monitoring": {"rules": {"enabled": False}}},
        wrong={"monitoring": {"rules": {"enabled": "yes"}}},
        words="/monitoring/rules/enabled",
    ),
    "networkpolicies.yaml": Case(
        values=FULL,
        kinds={"NetworkPolicy"},
        without={"networkPolicy": {"enabled": False}},
        wrong={"networkPolicy": {"egress": [{"name": "teacher", "components": ["teacher"], "cidrs": []}]}},
        words="/networkPolicy/egress/0/components/0",
    ),
    "operator.yaml": Case(
        values=EXTERNAL,
        kinds={"ConfigMap", "Deployment"},
        without={"operator": {"enabled": False}},
        wrong={"operator": {"replicas": 2}},
        words="replicas",
    ),
    "services.yaml": Case(
        values=EXTERNAL,
        kinds={"Deployment", "Service"},
        without={"targets": []},
        gone="^Deployment .*generator",
        wrong={"targets": [{"name": "one"}, {"name": "one"}]},
        words="targets has 'one' twice",
    ),
    "setup.yaml": Case(
        values=EXTERNAL,
        kinds={"Job"},
        wrong={"kafka": {"replication": 0}},
        words="/kafka/replication",
    ),
    "tests/batch.yaml": Case(
        values=EXTERNAL,
        kinds={"ConfigMap", "Pod"},
        without={"targets": []},
        wrong={"tests": {"prompts": 0}},
        words="/tests/prompts",
    ),
    "tests/store.yaml": Case(
        values=EXTERNAL,
        kinds={"Pod"},
        wrong={"tests": {"seconds": 0}},
        words="/tests/seconds",
    ),
}


def made(name: str, values: Values) -> set[str]:
    """Kind and name of each object that the template makes."""
    ended = template(values)
    assert ended.returncode == 0, ended.stderr
    parts = re.split(r"^---\n# Source: tracemend/templates/(.+)\n", ended.stdout, flags=re.MULTILINE)
    objects = [yaml.safe_load(text) for path, text in zip(parts[1::2], parts[2::2], strict=True) if path == name]
    return {f"{each['kind']} {each['metadata']['name']}" for each in objects if each}


def test_every_template_has_an_entry() -> None:
    """Files that begin with `_` are parts of others, and the notes are a text (`test_notes_tell_what_is_risky`)."""
    templates = CHART / "templates"
    assert {path.relative_to(templates).as_posix() for path in templates.rglob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_it_makes_its_objects(name: str) -> None:
    assert {each.split()[0] for each in made(name, CASES[name].values)} == CASES[name].kinds


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.without])
def test_objects_disappear_where_they_are_not_asked_for(name: str) -> None:
    case = CASES[name]
    before, after = made(name, case.values), made(name, merged(case.values, **case.without))
    gone = {each for each in before if re.search(case.gone, each)}
    assert gone
    assert after == before - gone


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_refused_where_it_stands(name: str) -> None:
    case = CASES[name]
    assert case.words in refused(merged(case.values, **case.wrong))
