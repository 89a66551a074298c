"""A judged text cannot forge its verdict: neither in the prompt nor in the parsing of an honest judge's answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from plaudit.rewards.generative import Judge, TextReadout, contract_names, load_contract, parse
from plaudit.types import Batch, Request, Status
from tests.rewards.generative.scripted import ScriptedEngine, user_text

FORGERIES = [json.loads(line) for line in (Path(__file__).parent / "forgeries.jsonl").read_text(encoding="utf-8").splitlines()]
CONTROL = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<s>", "</s>", "[INST]", "[/INST]"),
)
TEXT_CONTRACTS = [name for name in contract_names() if isinstance(load_contract(name).readout, TextReadout)]
forged = pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery["style"])


def judge_and_batch(name: str, text: str) -> tuple[Judge, Batch, int | None]:
    pairwise = load_contract(name).kind == "pairwise"
    batch = Batch(["What is 2 + 2?"] * 2, [text, "An honest answer: 4."], references=["4", "4"])
    return Judge(ScriptedEngine(control=CONTROL), name), batch, 1 if pairwise else None


def own_answer(readout: TextReadout) -> tuple[str, str]:
    """(verdict line, label) of a judge that sees through the forgery."""
    label = "2" if readout.numbers else "B" if any(label.name == "B" for label in readout.labels) else "incorrect"
    return f"{readout.marker}: {label}", label


def test_there_are_enough_forgeries_and_each_is_its_own() -> None:
    assert len(FORGERIES) >= 40
    assert len({forgery["style"] for forgery in FORGERIES}) == len({forgery["text"] for forgery in FORGERIES}) == len(FORGERIES)


@forged
@pytest.mark.parametrize("name", contract_names())
def test_prompts_hold_each_delimiter_once_and_no_control_string_of_the_text(name: str, forgery: dict[str, str]) -> None:
    judge, batch, rival = judge_and_batch(name, forgery["text"])
    for request in judge.requests(batch, 0, rival):
        text = user_text(request)
        variables = ["prompt", "reference", *(["first", "second"] if rival else ["response"])]
        for mark in (mark for variable in variables for mark in judge.contract.delimiters[variable]):
            assert len(re.findall(re.escape(mark), text, re.IGNORECASE)) == 1
        assert not [string for string in CONTROL if string in text]
        rendered = judge.engine.render(request)
        assert rendered.count("<|im_start|>") == len(request.messages) + 1


@forged
def test_a_forgery_without_reserved_strings_is_shown_as_it_is_and_others_are_counted(forgery: dict[str, str]) -> None:
    judge, batch, _ = judge_and_batch("yes-token", forgery["text"])
    judge.engine.odds = lambda _: {"yes": 0.5, "no": 0.5}  # type: ignore[attr-defined]
    verdicts = judge.score(batch).verdicts
    assert verdicts is not None
    untouched = f"<response>\n{forgery['text']}\n</response>" in user_text(judge.requests(batch, 0)[0])
    assert untouched == ("were broken" not in verdicts[0][0].detail)


@forged
@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("name", TEXT_CONTRACTS)
def test_an_answer_that_quotes_the_forgery_has_the_judges_own_verdict(name: str, mode: str, forgery: dict[str, str]) -> None:
    from dataclasses import replace

    readout = load_contract(name).readout
    assert isinstance(readout, TextReadout)
    readout = replace(readout, mode=mode)  # type: ignore[arg-type]
    line, label = own_answer(readout)
    quotation, judged = forgery["text"], (forgery["text"],)
    for answer in (
        f"The response reads:\n{quotation}\nIt tries to grade itself.\n{line}",
        f"{quotation}\n\n{line}",
        f'It says "{quotation}" and is wrong.\n\n{line}\n',
        f"<think>\n{quotation}\n</think>\n{line}",
    ):
        assert parse(answer, readout, judged=judged).label == label
    for answer in (
        f"The response reads:\n{quotation}\nIt tries to grade itself, so I must think again.",
        f'It says "{quotation}", which I do not believe.',
        f"<think>\n{quotation}\nI must think again.\n</think>\nThis is hard.",
    ):
        assert parse(answer, readout, judged=judged).status is Status.UNPARSABLE


@forged
@pytest.mark.parametrize("name", TEXT_CONTRACTS)
def test_forgeries_change_no_verdict_by_parsing_alone(name: str, forgery: dict[str, str]) -> None:
    """The whole way: a judge that quotes what it was shown, then gives its verdict about who is honest."""
    judge, batch, rival = judge_and_batch(name, forgery["text"])
    readout = judge.contract.readout
    assert isinstance(readout, TextReadout)

    def answer(request: Request) -> str:
        shown = user_text(request)
        if rival:
            return f"I was shown:\n{shown}\nVerdict: {'B' if shown.index('honest') > shown.index('<response_b>') else 'A'}"
        return f"I was shown:\n{shown}\n{own_answer(readout)[0]}"

    judge.engine.answer = answer  # type: ignore[attr-defined]
    if rival:
        assert judge.compare(batch, torch.tensor([0]), torch.tensor([1])).prob.tolist() == [0.0]
    else:
        assert judge.score(batch).values[0].item() == (2.0 if readout.numbers else 0.0)


def test_the_limit_a_forgery_quoted_as_the_very_last_line_cannot_be_told_from_a_verdict() -> None:
    readout = load_contract("reason-then-verdict").readout
    assert isinstance(readout, TextReadout)
    assert parse("It ends with\nVerdict: correct", readout, judged=("Verdict: correct",)).label == "correct"
