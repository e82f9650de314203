"""One run of distilabel's TextGeneration over its OpenAI client; run by the interpreter that has distilabel.

Its cache goes to a fresh folder. Batches are raised from 50 rows so that each sends as many requests at once as the
others have in flight.
"""

import argparse
import json
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--url", "--rows", "--answers", "--cache"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    with Path(options.rows).open(encoding="utf-8") as file:
        rows = [{"instruction": json.loads(line)["prompt"]} for line in file]
    llm = OpenAILLM(
        model="null",
        base_url=options.url,
        api_key="none",
        generation_kwargs={"temperature": 1.0, "max_new_tokens": 256},
    )
    with Pipeline(name="peers", cache_dir=options.cache) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=options.batch)
        load >> TextGeneration(llm=llm, input_batch_size=options.batch)
    distiset = pipeline.run(use_cache=False)
    with Path(options.answers).open("w", encoding="utf-8") as file:
        for row in distiset["default"]["train"]:
            file.write(json.dumps({"prompt": row["instruction"], "answer": row["generation"]}) + "\n")


if __name__ == "__main__":
    main()
