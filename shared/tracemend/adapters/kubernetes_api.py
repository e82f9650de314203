"""The Kubernetes API as paths and plain mappings, on the official client.

Opened by `runtime.kubernetes`; the operator and the trainer's Kubernetes jobs call it. Plain mappings rather than the
client's models: custom resources have none, and a manifest is what the chart, the tests and the API server all speak.
Nothing is cached: what is read is what the API server holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.server_ports import Conflict

Json = dict[str, Any]

_TIMEOUT_S = 15.0
_REFUSED = frozenset({400, 401, 403, 405, 415, 422})
"""Answers that the same request would get again."""


class KubernetesApi:
    """One API server, by the credentials of the pod or of the kubeconfig that KUBECONFIG names."""

    def __init__(self) -> None:
        self._client: Any = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Json | None:
        """The answer; None where there is no such object.

        Raises:
            Conflict: The object exists already, or is no longer what `body` says that it was read as.
            Retry: No answer, or one that says to come back.
            SetupError: The request is refused for what it says or for who says it.
        """
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        status, content = await self._asked(method, path, headers=headers, body=body, query=query)
        if status == 404:
            return None
        _raise_refusal(method, path, status, content)
        answer: Json = json.loads(content)
        return answer

    async def page(self, path: str) -> str:
        """What is no JSON: a page that a pod serves, by `…/pods/POD:PORT/proxy/…`. Raises as `call`, and `KeyError`
        where there is no such thing."""
        status, content = await self._asked("GET", path, headers={"Accept": "*/*"})
        if status == 404:
            raise KeyError(path)
        _raise_refusal("GET", path, status, content)
        return content.decode(errors="replace")

    async def _asked(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """The status and the content of an answer; `Retry` where there is none."""
        import aiohttp

        client = await self._open()
        request = await client.param_serialize(
            method,
            path,
            path_params={},
            query_params=list((query or {}).items()),
            header_params=dict(headers),
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await client.call_api(*request, _request_timeout=_TIMEOUT_S)
            return int(answer.status), await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retry("kubernetes_away") from error

    async def _open(self) -> Any:
        if self._client is None:
            from kubernetes.aio import client, config

            try:
                await config.load_config()  # type: ignore[no-untyped-call]  # the client's authors left it so
            except config.ConfigException as error:
                message = f"no access to a Kubernetes API: {error}; run in a pod, or set KUBECONFIG"
                raise SetupError(message) from error
            self._client = client.ApiClient()
        return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def _raise_refusal(method: str, path: str, status: int, content: bytes) -> None:
    if 200 <= status < 300:
        return
    said = _message(content)
    if status == 409:
        raise Conflict(said)
    if status in _REFUSED:
        raise SetupError(f"the Kubernetes API refuses {method} {path} ({status}): {said}")
    raise Retry(f"kubernetes_answers_{status}")


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace")
