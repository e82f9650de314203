"""A release of the chart in a namespace of its own, on a cluster with a real node: what its tests stand on.

Everything goes through helm, kubectl and the command line, as it does for users. Beside the release stand the servers
that it works with and the volumes that stand for the engine's image (README.md).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHART = HERE.parents[2] / "charts" / "tracemend"
KINDS = (
    "deployments,statefulsets,jobs,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,"
    "networkpolicies,poddisruptionbudgets,podtemplates,persistentvolumeclaims"
)
_CRDS = ("trainingruns.tracemend.dev", "evaluationruns.tracemend.dev")


@dataclass
class Release:
    """A namespace with servers and volumes, and helm's release in it once `install` was called."""

    namespace: str
    folder: Path
    """The test's own: packages, tokens."""
    has_definitions: bool
    """Whether the cluster had the custom resources before."""
    before: set[str] = field(default_factory=set)
    """What was in the namespace before the release."""
    took_s: dict[str, float] = field(default_factory=dict)
    """What was measured, in the order in which it happened."""

    def kubectl(self, *arguments: str, check: bool = True, within_s: float = 300) -> str:
        return run(("kubectl", "--namespace", self.namespace, *arguments), check=check, within_s=within_s)

    def get(self, what: str, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", what, "--output=json", *arguments))

    def helm(self, *arguments: str, within_s: float = 600) -> str:
        return run(("helm", "--namespace", self.namespace, *arguments), within_s=within_s)

    def deploy(self, verb: str, chart: Path, *arguments: str) -> None:
        """`helm install` or `helm upgrade`, until everything is ready."""
        definitions = f"crds.install={json.dumps(not self.has_definitions)}"
        given = ("--values", str(HERE / "values.yaml"), "--set", definitions, "--wait", "--timeout=8m")
        with self.timed(verb):
            self.helm(verb, "tracemend", str(chart), *given, *arguments)

    def command(self, *arguments: str, check: bool = True, within_s: float = 600) -> str:
        """What a `tracemend` command prints that is told where the release's door is, and given a token."""
        token = self.folder / "token"
        if not token.exists():
            token.touch(mode=0o600)
            token.write_text(self._secret("token"), encoding="utf-8")
        door = self.get("service/tracemend")["spec"]["clusterIP"]
        reach = {"TRACEMEND_TO": f"{door}:8443", "TRACEMEND_TOKEN_FILE": str(token), "TRACEMEND_PLAINTEXT": "1"}
        program = str(Path(sys.executable).with_name("tracemend"))
        return run((program, *arguments), check=check, within_s=within_s, **reach)

    def states(self) -> dict[str, str]:
        """Run to state."""
        return {each["run"]: each["state"] for each in json.loads(self.command("runs", "--json"))}

    def _secret(self, key: str) -> str:
        template = "{{index .data %s | base64decode}}" % json.dumps(key)  # noqa: UP031 - braces are the template's
        return self.kubectl("get", "secret/servers", f"--output=go-template={template}")

    # ------------------------------------------------------------------------------------------------ pods

    def pods(self, component: str) -> list[Any]:
        """Those of a component that are not on their way out."""
        found = self.get("pods", f"--selector=app.kubernetes.io/component={component}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def kill(self, pod: str) -> None:
        """SIGKILL at once, and no word of it to anybody."""
        self.kubectl("delete", f"pod/{pod}", "--grace-period=0", "--force", "--wait=false")

    def kill_and_wait(self, *components: str) -> None:
        """Kill all pods of these components, and measure for each until as many others are ready."""
        before = {one: {pod["metadata"]["name"] for pod in self.pods(one)} for one in components}
        begun = time.monotonic()
        for pod in sorted(set().union(*before.values())):
            self.kill(pod)
        for component in components:
            self.wait(
                partial(self._are_back, component, before[component]), f"{component} is ready again", within_s=300
            )
            self._note(f"recovery of {component}", time.monotonic() - begun)

    def _are_back(self, component: str, before: set[str]) -> bool:
        new = [pod for pod in self.pods(component) if pod["metadata"]["name"] not in before]
        return len(new) >= len(before) > 0 and all(map(is_ready, new))

    def wait(self, happened: Callable[[], bool], what: str, *, within_s: float) -> None:
        ends_at = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < ends_at, f"not within {within_s:.0f} s: {what}\n{self.story()}"
            time.sleep(0.5)

    def story(self) -> str:
        """What a failed test shows: pods, runs, and the ends of logs."""
        told = [self.kubectl("get", "pods,trainingruns,evaluationruns", "--output=wide", check=False)]
        for pod in self.kubectl("get", "pods", "--output=name", check=False).split():
            told.append(f"--- {pod}\n{self.kubectl('logs', pod, '--tail=15', check=False)}")
        return "\n".join(told)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._note(what, time.monotonic() - begun)

    def _note(self, what: str, took_s: float) -> None:
        self.took_s[what] = took_s
        print(f"{what}: {took_s:.1f} s", flush=True)

    def named(self) -> set[str]:
        """Everything in the namespace but events, by kind and name."""
        own = self.kubectl("get", "trainingruns,evaluationruns", "--output=name", check=False)  # unknown at first
        return set((self.kubectl("get", KINDS, "--output=name") + own).split())


@contextmanager
def open_release(folder: Path, *, environment: Path, models: Path) -> Iterator[Release]:
    """A namespace that restricts its pods, with servers and volumes; gone again at the end. `environment` and `models`
    are folders of the node."""
    name = f"tm-chart-{secrets.token_hex(3)}"
    known = run(("kubectl", "get", "crd", *_CRDS, "--ignore-not-found", "--output=name")).split()
    release = Release(namespace=name, folder=folder, has_definitions=len(known) == len(_CRDS))
    told = (HERE / "volumes.yaml").read_text(encoding="utf-8")
    for word, meant in {"ENVIRONMENT": environment, "MODELS": models, "NAMESPACE": name}.items():
        told = told.replace(word, str(meant))
    volumes = folder / "volumes.yaml"
    volumes.write_text(told, encoding="utf-8")
    run(("kubectl", "create", "namespace", name))
    try:
        run(("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"))
        for manifest in (volumes, HERE / "servers.yaml"):
            release.kubectl("apply", f"--filename={manifest}")
        release.kubectl("rollout", "status", "deployment/servers", "--timeout=3m")
        release.before = release.named()
        yield release
    finally:
        # Nobody may be left who would have the last word on them.
        release.kubectl("delete", "trainingruns,evaluationruns", "--all", "--wait=false", check=False)
        for each in release.kubectl("get", "trainingruns,evaluationruns", "--output=name", check=False).split():
            release.kubectl("patch", each, "--type=merge", '--patch={"metadata":{"finalizers":null}}', check=False)
        run(("kubectl", "delete", "namespace", name, "--timeout=120s"), check=False)
        run(("kubectl", "delete", f"--filename={volumes}", "--ignore-not-found", "--wait=false"), check=False)


def is_ready(pod: Any) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def run(command: Sequence[str], *, check: bool = True, within_s: float = 300, **environ: str) -> str:
    """What a command prints; an assertion fails with its words where it fails and `check` is set."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=within_s, check=False, env={**os.environ, **environ}
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
