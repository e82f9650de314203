"""The `null_teacher` script: answers every rewrite request with a safe rewrite, for load tests without a teacher.

The last user message is the corrector's JSON object; a request that is none is rejected, as a real teacher's caller
would see it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from tracemend.adapters.scripts import last_user_message, scripts
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish
from tracemend.redaction import Text

_SCORES = '{"safety": 10, "policy_relevance": 10, "reasoning_accuracy": 10}'
_REWRITE = (
    "<reasoning>\nWeigh the request and what may follow. Nothing harmful may come of it. This is safe.\n</reasoning>\n"
    "<answer>\nThe answer is safe.\n</answer>"
)


@scripts.register
def null_teacher() -> Callable[[ModelRequest], Completion]:
    """Always safe; `score` tasks get full marks."""

    def complete(request: ModelRequest) -> Completion:
        try:
            task = json.loads(last_user_message(request))["task"]
        except (ValueError, KeyError, TypeError):
            raise Reject("teacher_cannot_parse", "the last user message must be a JSON object with a task") from None
        text = _SCORES if task == "score" else _REWRITE
        return Completion(text=Text(text), finish=Finish.STOP, num_prompt_tokens=1, num_new_tokens=len(text.split()))

    return complete
