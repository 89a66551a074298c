"""py-openjudge: `GradingRunner.arun` with one pointwise `LLMGrader`; answers are JSON, read by pydantic."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable

from loguru import logger
from openjudge.graders.llm_grader import LLMGrader
from openjudge.models.openai_chat_model import OpenAIChatModel
from openjudge.runner.grading_runner import GradingRunner

from benchmarks.peers.arm import Sample, run_arm

PROMPT = 'Judge the response from 1 to 5.\nPrompt: {prompt}\nResponse: {response}\nAnswer in JSON with "score" and "reason".'


def prepare(given: argparse.Namespace) -> Callable[[list[Sample]], int]:
    """One runner and one event loop for all batches, so that connections stay open."""
    logger.remove()
    loop = asyncio.new_event_loop()
    model = OpenAIChatModel("stub-openjudge", api_key="none", base_url=given.url)
    grader = LLMGrader(model, name="overhead", template=PROMPT)
    runner = GradingRunner({"overhead": grader}, max_concurrency=given.concurrency, show_progress=False)

    def judge(work: list[Sample]) -> int:
        rows = [{"prompt": sample.prompt, "response": sample.response} for sample in work]
        results = loop.run_until_complete(runner.arun(rows))["overhead"]
        return len(work) - sum(1 for result in results if getattr(result, "score", None) in range(1, 6))

    return judge


if __name__ == "__main__":
    run_arm(prepare)
