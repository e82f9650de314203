"""Who may call what: one table over every method of every service, which a test keeps exhaustive.

Read by the authorisation interceptor; a method that is not listed is denied. Roles do not contain each other: whoever
should do two things is given two roles, and reading what prompts and models wrote is `REVIEWER`'s alone, for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What a caller may be."""

    SUBMITTER = "submitter"
    """Creates runs, uploads prompts, watches."""
    OPERATOR = "operator"
    """Keeps runs going: pauses, resumes, cancels, redrives, starts jobs."""
    REVIEWER = "reviewer"
    """Reads text of prompts and models, for a stated purpose and audited."""
    AUDITOR = "auditor"
    """Reads what was done, not what was written."""
    ADMIN = "admin"
    """Everything but reading text."""
    SERVICE = "service"
    """A service of this system, known by its certificate; no token can give it."""


PEOPLE = frozenset(Role) - {Role.SERVICE}
EVERYBODY = frozenset(Role)

_WATCHERS = frozenset({Role.SUBMITTER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN, Role.SERVICE})
_SUBMITTERS = frozenset({Role.SUBMITTER, Role.ADMIN, Role.SERVICE})
_OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN, Role.SERVICE})
_KEEPERS = _SUBMITTERS | _OPERATORS
_READERS = frozenset({Role.REVIEWER})
_WORKERS = frozenset({Role.REVIEWER, Role.SERVICE})
_KNOWN = _WATCHERS | _READERS


def _service(name: str, table: Mapping[frozenset[Role], Iterable[str]]) -> dict[str, frozenset[Role]]:
    return {f"tracemend.api.{name}/{method}": roles for roles, methods in table.items() for method in methods}


PERMISSIONS: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        **_service(
            "ingestion.v1.IngestionService",
            {
                _SUBMITTERS: ("CreateRun", "UploadPrompts", "GetUpload", "SealRun"),
                _KEEPERS: ("CancelRun", "PauseRun", "ResumeRun"),
                _OPERATORS: ("RedriveUnits", "RedriveDeadLetters"),
                _WATCHERS: ("GetRun", "ListRuns", "WatchRun", "ListOutcomes", "ListDeadLetters", "TraceRecord"),
                _READERS: ("GetTrajectoryText",),
            },
        ),
        **_service("generator.v1.GeneratorService", {_KNOWN: ("DescribeModel",), _WORKERS: ("Generate", "Continue")}),
        **_service(
            "judge.v1.JudgeService",
            {_KNOWN: ("DescribePanel",), _KEEPERS: ("JudgeTrajectories",), _WORKERS: ("GradeTrajectories",)},
        ),
        **_service(
            "corrector.v1.CorrectorService", {_KNOWN: ("DescribeStrategies",), _WORKERS: ("CorrectTrajectory",)}
        ),
        **_service(
            "trainer.v1.TrainerService",
            {
                _OPERATORS: ("StartTraining", "CancelTraining"),
                _WATCHERS: ("GetTraining", "ListTrainings", "WatchTraining"),
            },
        ),
        **_service(
            "evaluator.v1.EvaluatorService",
            {
                _OPERATORS: ("StartEvaluation", "CancelEvaluation"),
                _WATCHERS: ("GetEvaluation", "ListEvaluations", "WatchEvaluation", "GetReport"),
                _READERS: ("DownloadReport",),
            },
        ),
    }
)
"""Full method name (`package.Service/Method`) to the roles of which one is enough."""

READS_TEXT = frozenset(
    {
        "tracemend.api.ingestion.v1.IngestionService/GetTrajectoryText",
        "tracemend.api.generator.v1.GeneratorService/Generate",
        "tracemend.api.generator.v1.GeneratorService/Continue",
        "tracemend.api.judge.v1.JudgeService/GradeTrajectories",
        "tracemend.api.corrector.v1.CorrectorService/CorrectTrajectory",
        "tracemend.api.evaluator.v1.EvaluatorService/DownloadReport",
    }
)
"""Methods whose answers hold words of prompts or models: people state a purpose and leave an audit entry first."""

AUDITED = frozenset(
    {
        "tracemend.api.ingestion.v1.IngestionService/CancelRun",
        "tracemend.api.ingestion.v1.IngestionService/RedriveUnits",
        "tracemend.api.ingestion.v1.IngestionService/RedriveDeadLetters",
        "tracemend.api.trainer.v1.TrainerService/StartTraining",
        "tracemend.api.trainer.v1.TrainerService/CancelTraining",
        "tracemend.api.evaluator.v1.EvaluatorService/StartEvaluation",
        "tracemend.api.evaluator.v1.EvaluatorService/CancelEvaluation",
    }
)
"""Methods with effects that must be accounted for, whoever calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules of a server: who may call what, what shows text, what is written down."""

    roles: Mapping[str, frozenset[Role]]
    """As `PERMISSIONS`."""
    reads_text: frozenset[str] = frozenset()
    audited: frozenset[str] = frozenset()


ACCESS = Access(roles=PERMISSIONS, reads_text=READS_TEXT, audited=AUDITED)
