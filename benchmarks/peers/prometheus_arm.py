"""prometheus-eval: `PrometheusEval.absolute_grade` over `AsyncLiteLLM`, with its rate limiter out of the way."""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections.abc import Callable

os.environ["OPENAI_API_KEY"] = "none"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no download of a price list at import

from prometheus_eval import PrometheusEval
from prometheus_eval.litellm import AsyncLiteLLM
from prometheus_eval.prompts import ABSOLUTE_PROMPT_WO_REF

from benchmarks.peers.arm import Sample, run_arm

RUBRIC = "[Is the response helpful?]\nScore 1: no\nScore 2: a little\nScore 3: partly\nScore 4: mostly\nScore 5: yes"


def prepare(given: argparse.Namespace) -> Callable[[list[Sample]], int]:
    """batch_size is what it has for concurrency: that many requests at once, then the next that many."""
    warnings.simplefilter("ignore")
    model = AsyncLiteLLM("openai/stub-prometheus", batch_size=given.concurrency, requests_per_minute=10**9, api_base=given.url)
    judge = PrometheusEval(model=model, absolute_grade_template=ABSOLUTE_PROMPT_WO_REF)

    def grade(work: list[Sample]) -> int:
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            _, scores = judge.absolute_grade(
                instructions=[sample.prompt for sample in work],
                responses=[sample.response for sample in work],
                rubric=RUBRIC,
                params={},
            )
        return len(work) - sum(1 for score in scores if score in range(1, 6))

    return grade


if __name__ == "__main__":
    run_arm(prepare)
