"""From `report.json` to one self-contained page.

Called by the embedded pipeline and by `tracemend report`. Invariants: the page asks nothing of the network and runs no
script (its content policy forbids both); whatever a prompt, a model or a run file wrote is escaped, and characters
that hide or reorder text are shown by their code points.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from tracemend.evaluator.report.inert import inert
from tracemend.evaluator.report.page import page

_TEMPLATES = "tracemend.evaluator.report"


def render_html(report: Mapping[str, Any]) -> str:
    """The page of a report as `build_report` makes it."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else inert(value),
    )
    environment.filters |= {"percent": percent, "points": points, "count": count, "duration": duration, "label": label}
    style = _template("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment.get_template("report.html.jinja")
    return template.render(page(report), style=Markup(style), style_digest=digest)


def _template(name: str) -> str:
    return resources.files(_TEMPLATES).joinpath("templates", name).read_text(encoding="utf-8")


def percent(rate: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if rate is None else f"{100 * rate:.1f}\N{NARROW NO-BREAK SPACE}%"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, always signed."""
    if difference is None:
        return "–"
    rounded = round(100 * difference, 1)
    return f"{'−' if rounded < 0 else '+' if rounded > 0 else '±'}{abs(rounded):.1f}"


def count(number: float | None) -> str:
    """A count with thousands apart; fractions keep three digits."""
    if number is None:
        return "–"
    if number == int(number):
        return f"{int(number):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{number:,.3g}" if abs(number) < 1000 else count(round(number))


def duration(seconds: float | None) -> str:
    """A time as people say it."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def label(name: str) -> str:
    """A split, stage or reason as words."""
    return name.replace("_", " ")
