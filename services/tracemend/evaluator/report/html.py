"""From `report.json` to one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render_html(report: Mapping[str, Any]) -> str:
    """The page."""
    return f"<!doctype html><title>{report['name']}</title>"
