"""A small reasoning model behind vLLM's own API server on loopback: what tests of endpoints run against.

The model is the proving ground's, hardly trained: it writes short traces with both tags, and nonsense. Its template
takes a system message, which the proving ground's own does not, so that any judge can be asked through it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

NAME = "tiny"
CONTEXT = 2048
_TEMPLATE = (
    "{% for message in messages %}{{ ('<|assistant|>' if message.role == 'assistant' else '<|user|>') + ' ' "
    "+ message.content + ' ' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_START_S = 300


def small_model(folder: Path, *, cache: Path) -> Path:
    """Write the model to `folder`: two layers, some seconds of training, a context that holds a judge's rubric."""
    from tracemend.proving.base_model import BaseConfig, ensure_model
    from tracemend.proving.corpus import CorpusConfig
    from tracemend.proving.training import ShapeConfig

    config = BaseConfig(
        corpus=CorpusConfig(num_documents=1500), shape=ShapeConfig(hidden=64, num_layers=2, num_heads=2, mlp=128)
    )
    shutil.copytree(ensure_model(config, cache=cache, num_threads=1), folder)
    (folder / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(content | {key: CONTEXT}), encoding="utf-8")
    return folder


@contextlib.contextmanager
def serving(folder: Path, *, log: Path) -> Iterator[str]:
    """The base URL of a server for the model in `folder`, called `NAME`; the server ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name",
        NAME, "--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32",
        "--no-enable-chunked-prefill",  # or seeded requests end the server: see adapters.vllm_setup
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.5)
    pytest.fail(f"vLLM's server did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
