"""One run of Bespoke Curator's LLM over its OpenAI backend; run by the interpreter that has curator.

Its cache goes to a fresh folder; its limits of requests and tokens per minute are raised out of the way.
"""

import argparse
import importlib.util
import json
import os
from pathlib import Path

from bespokelabs import curator


def use_installed_token_table() -> None:
    """Have tiktoken read the table that litellm, which curator needs, has with it, instead of downloading it."""
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    tables = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tables)


class Answer(curator.LLM):
    """The prompt as it is, the answer as it comes."""

    def prompt(self, row: dict[str, str]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        return {"prompt": row["prompt"], "answer": response}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--url", "--rows", "--answers", "--cache"):
        parser.add_argument(name, required=True)
    parser.add_argument("--concurrent", type=int, default=256)
    options = parser.parse_args()
    use_installed_token_table()
    with Path(options.rows).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    limits = {
        "max_concurrent_requests": options.concurrent,
        "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 10_000_000_000,
    }
    llm = Answer(
        model_name="null",
        backend="openai",
        generation_params={"temperature": 1.0, "max_tokens": 256},
        backend_params={"base_url": options.url, "api_key": "none", **limits},
    )
    response = llm(rows, working_dir=options.cache)
    with Path(options.answers).open("w", encoding="utf-8") as file:
        for row in response.dataset:
            file.write(json.dumps({"prompt": row["prompt"], "answer": row["answer"]}) + "\n")


if __name__ == "__main__":
    main()
