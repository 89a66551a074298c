"""A small run of benchmarks/fuzz_parsers.py, which does 100,000 strings when asked to; and that it would notice."""

from __future__ import annotations

import random

from benchmarks import fuzz_parsers

from plaudit.rewards.generative import Parsed, ParsedList, contract_names, load_contract
from plaudit.types import Status


def test_no_parser_raises_or_reads_what_is_not_there() -> None:
    outcome = fuzz_parsers.fuzz(2500, seed=1)
    assert outcome.broken == []
    readers = [name for name in contract_names() if hasattr(load_contract(name).readout, "mode")]
    assert set(outcome.read) == {f"{name}, {mode}" for name in readers for mode in ("strict", "lenient")}, "each is exercised"


def test_the_strings_are_those_of_the_seed() -> None:
    drawn = [[fuzz_parsers.strange_text(random.Random(seed)) for _ in range(3)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_verdict_that_is_not_there_is_noticed() -> None:
    for name, found in [
        ("reason-then-verdict", Parsed(Status.OK, "correct", 1.0)),
        ("chain-of-rubrics", Parsed(Status.OK, "A", 1.0)),
        ("boxed-verdict", Parsed(Status.OK, "correct", 1.0)),
        ("nuggets", ParsedList(Status.OK, (1.0, 0.0, None), ("support", "not_support", None))),
        ("principled-scores", ParsedList(Status.OK, (7.0, 4.0, 1.0), ("7", "4", "1"))),
        ("principle-ranking", ParsedList(Status.OK, (5.0, None, None), ("5", None, None))),
    ]:
        for text in ("", "A, 7 4: not_support then support", "response-2: 5"):
            assert not fuzz_parsers.is_warranted(load_contract(name), text, found)
