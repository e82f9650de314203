"""What tests of trainings in processes of their own share: the operators that DeepSpeed compiles, which take long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def extensions(tmp_path_factory) -> Path:
    """The folder that torch compiles to; whoever sets TORCH_EXTENSIONS_DIR keeps it from one session to the next."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or tmp_path_factory.mktemp("extensions"))
