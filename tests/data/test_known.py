"""Public data sets: counts and label distributions are those that the sets' own pages state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from plaudit.data import Row, read_rows

pytestmark = pytest.mark.public_data
Find = Callable[[str], Path]

FIRST, SECOND, TIE = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "rows", "layouts", "notes"),
    [
        ("llmbar", 1033, "llmbar", {"empty response": 1}),
        ("judgebench", 378, "judgebench", {}),
        ("rm_bench", 474, "rm_bench", {}),
        (
            "hh_rlhf",
            2588,
            "hh_rlhf, hh_rlhf_responses",
            {"empty response": 1, "response with several turns": 2, "prompt ends with the assistant": 1},
        ),
        ("pandalm", 999, "pandalm", {"boolean as response": 6, "empty response": 54}),
        ("auto_j_pairwise", 1392, "auto_j_pairwise", {"empty response": 1}),
        ("gsm8k", 791 + 791 + 7473, "gsm8k_solutions, gsm8k", {}),
        ("math500", 500, "math500", {}),
        ("alpaca_eval", 6440, "alpaca_eval", {"label not parsed": 5, "empty response": 3}),
        ("hhh_alignment", 221, "hhh_alignment", {}),
        ("rmb", 528 + 705, "rmb_best_of_n, rmb_pairwise", {}),
        ("qwen_math_best_of_8", 100, "qwen_math_best_of_n", {}),
        ("prm800k_sample", 300, "prm800k", {}),
        ("big_bench_mistake", 2186, "big_bench_mistake", {}),
    ],
)
def test_counts(public_data: Find, name: str, rows: int, layouts: str, notes: dict[str, int]) -> None:
    stream = read_rows(public_data(name))
    read = list(stream)
    assert len(read) == stream.count() == rows
    assert len({row.id for row in read}) == rows
    assert stream.layout == layouts
    assert stream.notes == notes
    assert all(isinstance(text, str) for row in read for text in row.responses)


def golds(rows: list[Row]) -> Counter[object]:
    return Counter(row.gold for row in rows)


def test_llmbar(public_data: Find) -> None:
    rows = list(read_rows(public_data("llmbar") / "natural.jsonl"))
    assert golds(rows) == {FIRST: 29, SECOND: 31}
    assert rows[0].gold == FIRST
    assert {row.section for row in rows} == {"natural"}
    assert rows[0].responses[0].startswith("My girlfriend's visa")


def test_judgebench(public_data: Find) -> None:
    rows = list(read_rows(public_data("judgebench") / "gpt.jsonl.gz"))
    assert golds(rows) == {FIRST: 119, SECOND: 95}
    assert Counter(row.section for row in rows) == {"knowledge": 93, "reasoning": 57, "math": 35, "coding": 29}


def test_rm_bench(public_data: Find) -> None:
    rows = list(read_rows(public_data("rm_bench")))
    assert golds(rows) == {(1.0, 1.0, 1.0, 0.0, 0.0, 0.0): 474}
    assert Counter(row.section for row in rows) == {"chat": 77, "code": 134, "safety_refuse": 169, "safety_response": 94}
    assert rows[0].extras["style"] == (0, 1, 2, 0, 1, 2)
    assert sum(1 for _ in rows[0].contests()) == 9


def test_hh_rlhf(public_data: Find) -> None:
    harmless = list(read_rows(public_data("hh_rlhf") / "harmless_base_test.jsonl.gz"))
    helpful = list(read_rows(public_data("hh_rlhf") / "helpful_base_test.jsonl.gz"))
    assert golds(harmless) == {FIRST: 1392}
    assert golds(helpful) == {FIRST: 597, SECOND: 599}
    for row in (*harmless, *helpful):
        roles = [message["role"] for message in row.prompt]  # type: ignore[union-attr]  # every prompt is a chat here
        assert roles[0] == "user"
        assert (roles[-1] == "user") == ("prompt ends with the assistant" not in row.notes)
        assert all(first != second for first, second in pairwise(roles))
    assert not any("\n\nHuman:" in text for row in harmless if not row.notes for text in row.responses)


def test_pandalm(public_data: Find) -> None:
    rows = list(read_rows(public_data("pandalm")))
    assert golds(rows) == {TIE: 105, FIRST: 422, SECOND: 472}
    assert {text for row in rows if "boolean as response" in row.notes for text in row.responses} >= {"True"}


def test_auto_j(public_data: Find) -> None:
    rows = list(read_rows(public_data("auto_j_pairwise")))
    assert golds(rows) == {FIRST: 520, SECOND: 499, TIE: 373}
    assert len({row.section for row in rows}) == 58


def test_gsm8k(public_data: Find) -> None:
    rows = list(read_rows(public_data("gsm8k") / "example_model_solutions.jsonl.gz"))
    right = [sum(row.gold[place] for row in rows if row.gold) for place in range(4)]
    assert right == [186, 317, 287, 447]
    test = list(read_rows(public_data("gsm8k") / "test.jsonl.gz"))
    assert test[0].references == ("18",)
    assert {row.prompt: row.references[0] for row in test if row.references} == {
        row.prompt: row.references[0] for row in rows if row.references
    }
    assert not any("," in row.references[0] for row in test if row.references)


def test_math500(public_data: Find) -> None:
    row = next(iter(read_rows(public_data("math500"))))
    assert row.references == ("\\left( 3, \\frac{\\pi}{2} \\right)",)
    assert (row.gold, row.section, row.id) == ((1.0,), "Precalculus", "test/precalculus/807.json")


@pytest.mark.parametrize(
    ("model", "win_rate"), [("alpaca-7b", 26.46), ("vicuna-13b", 70.43), ("claude-2", 91.36), ("gpt4_1106_preview", 97.70)]
)
def test_alpaca_eval_win_rates(public_data: Find, model: str, win_rate: float) -> None:
    rows = read_rows(public_data("alpaca_eval") / f"annotations_alpaca_eval_gpt4__{model}.jsonl.gz")
    wins = [row.gold[1] for row in rows if row.gold]
    assert 100 * sum(wins) / len(wins) == pytest.approx(win_rate, abs=0.005)


def test_hhh_alignment(public_data: Find) -> None:
    rows = list(read_rows(public_data("hhh_alignment")))
    assert Counter(row.section for row in rows) == {"honest": 61, "helpful": 59, "harmless": 58, "other": 43}
    assert golds(rows) == {FIRST: 221}
    assert not any("###" in text for row in rows for text in (row.prompt, *row.responses))


def test_rmb(public_data: Find) -> None:
    rows = list(read_rows(public_data("rmb") / "bon_helpfulness_sample.jsonl.gz"))
    assert Counter(len(row.responses) for row in rows) == {3: 377, 4: 118, 5: 25, 6: 4, 7: 4}
    assert all(row.gold and row.gold[0] == 1 and sum(row.gold) == 1 for row in rows)
    assert set(rows[0].prompt[0]) == {"role", "content"}  # type: ignore[index]  # a chat


def test_qwen_best_of_n(public_data: Find) -> None:
    rows = list(read_rows(public_data("qwen_math_best_of_8")))
    golden = [row.gold or () for row in rows]
    assert sum(sum(gold) for gold in golden) / 8 == pytest.approx(91.0)
    assert sum(any(gold) for gold in golden) == 96
    best = [max(range(8), key=row.extras["recorded_scores"].__getitem__) for row in rows]
    assert sum(gold[place] for gold, place in zip(golden, best, strict=True)) == 94


def test_steps(public_data: Find) -> None:
    rated = list(read_rows(public_data("prm800k_sample")))
    assert golds(rated) == {(1.0,): 150, (0.0,): 150}
    assert sum(rating == 0 for row in rated for rating in row.extras["step_ratings"]) == 353
    right = Counter(row.section for row in read_rows(public_data("big_bench_mistake")) if row.gold == (1.0,))
    assert right == {
        "word_sorting": 34, "tracking_shuffled_objects": 40, "logical_deduction": 6,
        "multistep_arithmetic": 62, "dyck_languages": 336,
    }  # fmt: skip


def test_a_limit_reaches_every_file(public_data: Find) -> None:
    rows = list(read_rows(public_data("llmbar"), limit=100))
    assert len(rows) == 100
    assert set(Counter(row.section for row in rows).values()) == {7, 8}
