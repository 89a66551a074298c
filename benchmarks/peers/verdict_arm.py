"""verdict: `Pipeline.run_from_list` with one `JudgeUnit`; answers read by regex (`--variant structured`: by instructor).

retries=3 as in its documentation: without it a race between its threads (they share the regex extractor, whose schema is
swapped while others read by it) now and then ends a whole run of 2,000 with a validation error.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable

os.environ["VERDICT_NO_LOG"] = "1"  # its log file of every step would cost it more than half of its speed
os.chdir(tempfile.mkdtemp())  # it makes a folder for logs where it is imported

# ruff: noqa: E402
from verdict import Pipeline
from verdict.common.judge import JudgeUnit
from verdict.extractor import RegexExtractor
from verdict.model import vLLMModel
from verdict.scale import DiscreteScale
from verdict.schema import Schema
from verdict.util import ratelimit

from benchmarks.peers.arm import Sample, run_arm

PROMPT = "Judge the response from 1 to 5.\nPrompt: {source.prompt}\nResponse: {source.response}\nEnd with the score."


def prepare(given: argparse.Namespace) -> Callable[[list[Sample]], int]:
    """Build the pipeline anew for every batch, as its documentation does: a pipeline keeps what it ran."""
    ratelimit.disable()
    structured = given.variant == "structured"
    model = vLLMModel("stub-verdict-structured" if structured else "stub-verdict", api_base=given.url, api_key="none")

    def judge(work: list[Sample]) -> int:
        unit = JudgeUnit(DiscreteScale((1, 5))).prompt(PROMPT).via(model, retries=3, temperature=0.0)
        if not structured:
            unit = unit.extract(RegexExtractor({"score": RegexExtractor.FIRST_INT}))
        rows = [Schema.of(prompt=sample.prompt, response=sample.response) for sample in work]
        frame, columns = (Pipeline("overhead") >> unit).run_from_list(rows, max_workers=given.concurrency)
        return len(work) - sum(1 for value in frame[columns[0]] if value in range(1, 6))

    return judge


if __name__ == "__main__":
    run_arm(prepare)
