"""Access to a Kubernetes API, for slices that run jobs there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Kubernetes(Protocol):
    """Paths and plain mappings: see `adapters.kubernetes_api` for what is raised."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any] | None: ...

    async def aclose(self) -> None: ...


class KubernetesPages(Kubernetes, Protocol):
    """With what pods serve beside that."""

    async def page(self, path: str) -> str: ...


def open_kubernetes() -> KubernetesPages:
    """The API that this pod, or KUBECONFIG, has access to. Nothing is asked of it yet."""
    from tracemend.adapters.kubernetes_api import KubernetesApi

    return KubernetesApi()
