"""What some tests need and a fresh clone lacks: each function returns it, or ends the test with the reason.

A missing thing skips the test, and fails it where the comma list in TRACEMEND_REQUIRE names the thing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def needs_data() -> Path:
    """The folder of public data sets, from TRACEMEND_DATA."""
    folder = os.environ.get("TRACEMEND_DATA", "")
    if not folder or not Path(folder).is_dir():
        _missing("data", f"TRACEMEND_DATA: a folder with the public data sets (it is {folder or 'unset'!r})")
    return Path(folder)


def needs_server(variable: str) -> str:
    """The address of a real server, from one of the variables that CONTRIBUTING.md lists, such as POSTGRES_DSN."""
    address = os.environ.get(variable, "")
    if not address:
        _missing("servers", f"{variable}: the address of a real server")
    return address


def needs_kubernetes() -> str:
    """A kubeconfig, from KUBECONFIG: of a cluster in which tests may make namespaces and custom resources."""
    path = os.environ.get("KUBECONFIG", "")
    if not path or not Path(path).is_file():
        _missing("kubernetes", f"KUBECONFIG: the file that leads to a Kubernetes API (it is {path or 'unset'!r})")
    return path


def needs_pods() -> Path:
    """The node's folder where pods find the engine's packages, from TRACEMEND_PODS: `make test-cluster` sets it for a
    cluster (KUBECONFIG) whose real node has the images of this checkout."""
    needs_kubernetes()
    folder = os.environ.get("TRACEMEND_PODS", "")
    if not folder:
        _missing("pods", "TRACEMEND_PODS: a cluster that runs pods of our images (make test-cluster)")
    return Path(folder)


def needs_keda() -> Path:
    """The folder with KEDA's programs and definitions, from TRACEMEND_KEDA: k8s/third-party/build-keda fills one."""
    folder = os.environ.get("TRACEMEND_KEDA", "")
    if not folder or not Path(folder, "keda-operator").is_file():
        _missing("keda", f"TRACEMEND_KEDA: a folder filled by k8s/third-party/build-keda (it is {folder or 'unset'!r})")
    return Path(folder)


def needs_tool(name: str) -> Path:
    """The executable `name`, from the folder TRACEMEND_TOOLS or from PATH."""
    folders = os.pathsep.join([os.environ.get("TRACEMEND_TOOLS", ""), os.environ.get("PATH", "")]).strip(os.pathsep)
    found = shutil.which(name, path=folders)
    if found is None:
        _missing(name, f"{name}: an executable in PATH or in the folder TRACEMEND_TOOLS")
    return Path(found)


def _missing(thing: str, reason: str) -> NoReturn:
    if thing in os.environ.get("TRACEMEND_REQUIRE", "").split(","):
        pytest.fail(f"TRACEMEND_REQUIRE names '{thing}', and this test needs {reason}")
    pytest.skip(f"needs {reason}")
