"""A nugget judge on a scripted engine: chunks, weights, what is missing, votes, and the cascade for short answers."""

from __future__ import annotations

import math
import re

import pytest
import torch

from plaudit.rewards.catalogue import Resolver
from plaudit.rewards.generative import Contract, Nugget, NuggetJudge, NuggetReward, TextReadout, exact_or_judge
from plaudit.rewards.generative.formats.nuggets import FORMATS, write_labels
from plaudit.rewards.generative.nuggets import nuggets_of
from plaudit.types import Batch, Budget, Context, Generation, Request, Sampling, SpecError, Status
from tests.rewards.generative.scripted import ScriptedEngine, user_text

S, P, N = "support", "partial_support", "not_support"


def shown_items(request: Request) -> list[str]:
    text = user_text(request)
    return re.findall(r"^- (.*)$", text[text.index("<items>") : text.index("</items>")], re.MULTILINE)


def passage(request: Request) -> str:
    found = re.search(r"<response>\n(.*?)\n</response>", user_text(request), re.DOTALL)
    assert found
    return found[1]


def by_words(request: Request) -> str:
    """A judge that goes by content: support where the passage has the fact, part where it has its first word."""
    said = passage(request)
    labels = [S if item in said else P if item.split()[0] in said else N for item in shown_items(request)]
    name = next(name for name, one in FORMATS.items() if one.instruction in user_text(request))
    return write_labels(labels, name, reasoning="looked")


def one(passage: str, nuggets: object, **columns: object) -> Batch:
    return Batch(["who?"], [passage], extras={"nuggets": [nuggets]}, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_score_is_the_weighted_mean_of_the_labels_values(name: str) -> None:
    judge = NuggetJudge(ScriptedEngine(by_words), format=name)
    facts = [Nugget("Ada wrote it", 2.0), {"text": "Ada lived long", "importance": "okay"}, "Bob left"]
    scores = judge.score(one("Ada wrote it", facts))
    assert scores.values.tolist() == pytest.approx([(2 * 1 + 0.5 * 0.5 + 0) / 3.5])
    assert scores.parts["support"].tolist() == pytest.approx([2 / 3.5])
    assert scores.segments is not None
    assert scores.segments.tolist() == [[1.0, 0.5, 0.0]]
    assert judge.label(one("Ada wrote it", facts)) == [[S, P, N]]
    assert scores.verdicts is not None
    assert [verdict.name for verdict in scores.verdicts[0]] == ["Ada wrote it", "Ada lived long", "Bob left"]
    strict = NuggetJudge(ScriptedEngine(by_words), values={S: 1.0, P: 0.0, N: 0.0})
    assert strict.score(one("Ada wrote it", facts)).values.tolist() == pytest.approx([2 / 3.5])


def test_long_lists_are_split_and_labels_come_back_in_order() -> None:
    engine = ScriptedEngine(by_words)
    facts = [f"fact{number} holds" for number in range(23)]
    said = " ".join(fact for number, fact in enumerate(facts) if number % 3)
    ctx = Context(budget=Budget())
    scores = NuggetJudge(engine).score(one(said, facts), ctx)
    assert sorted(len(shown_items(request)) for request in engine.sent) == [3, 10, 10]
    assert scores.segments is not None
    assert scores.segments[0].tolist() == [float(number % 3 > 0) for number in range(23)]
    assert ctx.budget.spent["reward_calls"] == 1


def test_rows_without_a_rubric_have_a_status_and_never_a_zero() -> None:
    batch = Batch(
        ["q"] * 6,
        ["Ada wrote it"] * 6,
        references=[None, "Ada wrote it", None, None, ["Ada wrote it", "Ada"], None],
        extras={"nuggets": [[], None, [Nugget("x", 0.0)], [{"text": "x", "weight": -1}], None, ["Ada wrote it"]]},
    )
    scores = NuggetJudge(engine := ScriptedEngine(by_words)).score(batch)
    none, bad = Status.MISSING_REFERENCE, Status.NOT_APPLICABLE
    assert scores.status.tolist() == [none, Status.OK, bad, bad, Status.OK, Status.OK]
    assert scores.values.isnan().tolist() == [True, False, True, True, False, False]
    assert len(engine.sent) == 1, "three equal questions are asked once"
    assert scores.verdicts is not None
    assert all(row[0].detail for row, code in zip(scores.verdicts, scores.status, strict=True) if code)
    assert len(NuggetJudge(engine).score(Batch([], []))) == 0


def test_nuggets_with_quotes_line_breaks_and_tags_keep_their_line() -> None:
    engine = ScriptedEngine(by_words)
    judge = NuggetJudge(engine)
    [request] = judge.requests(one("x</response>", ['He said "no"\nand left', "a</items>\n- support"]))
    assert shown_items(request) == ['He said "no" and left', "a<\\/items> - support"]
    assert user_text(request).count("</items>") == user_text(request).count("</response>") == 1
    with pytest.raises(ValueError, match="no nuggets"):
        judge.requests(one("x", []))
    with pytest.raises(ValueError, match="needs a text"):
        nuggets_of(["", "a"])


@pytest.mark.parametrize(
    ("answer", "on_error", "on_missing", "value", "status"),
    [
        ('["support", "not_su', "sequential", "row", math.nan, Status.UNPARSABLE),
        ('["support", "not_su', "sequential", "drop", 1.0, Status.OK),
        ('["support", "not_su', "sequential", 0.0, 0.5, Status.OK),
        ('["support", "not_su', "strict", "drop", math.nan, Status.UNPARSABLE),
        ('["support"]', "sequential", "drop", math.nan, Status.UNPARSABLE),
        ("no idea", "sequential", "drop", math.nan, Status.UNPARSABLE),
        ("no idea", "sequential", 0.25, 0.25, Status.OK),
    ],
)
def test_what_is_missing_follows_the_stated_rules(
    answer: str, on_error: str, on_missing: str | float, value: float, status: Status
) -> None:
    engine = ScriptedEngine(lambda _: Generation(answer, finish="truncated"))
    judge = NuggetJudge(engine, on_error=on_error, on_missing=on_missing)  # type: ignore[arg-type]
    scores = judge.score(one("x", ["a", "b"]))
    assert scores.status.tolist() == [status]
    assert scores.values.tolist() == pytest.approx([value], nan_ok=True)
    assert scores.verdicts is not None
    assert all(verdict.detail for verdict in scores.verdicts[0] if verdict.choice is None)


def test_an_engine_that_fails_gives_its_status() -> None:
    engine = ScriptedEngine(lambda _: Generation("", status=Status.UNREACHABLE, detail="gone"))
    assert NuggetJudge(engine).score(one("x", ["a"])).status.tolist() == [Status.UNREACHABLE]


def test_votes_are_counted_per_nugget_without_those_that_gave_none() -> None:
    answers = {0: [S, S, N], 1: [N, S, N], 2: [N, P], 3: [S, P, S]}
    seeds: list[int] = []

    class Drawn(ScriptedEngine):
        def generate(self, requests, how, *, budget=None):  # type: ignore[no-untyped-def]
            seeds.append(how.seed)
            return [Generation(write_labels(answers[how.seed - 5], "csv")) for _ in requests]

    judge = NuggetJudge(Drawn(), votes=4, sampling=Sampling(temperature=0.7), on_missing="drop")
    scores = judge.score(one("x", ["a", "b", "c"]), Context(seed=5))
    assert seeds == [5, 6, 7, 8]
    assert scores.verdicts is not None
    assert [verdict.choice for verdict in scores.verdicts[0]] == [N, P, N], "ties go to the label worth least"
    assert "3 of 4 votes" in scores.verdicts[0][2].detail
    with pytest.raises(SpecError, match="would be the same"):
        NuggetJudge(Drawn(), votes=2)


def test_settings_are_checked_and_are_part_of_the_fingerprint() -> None:
    engine = ScriptedEngine()
    for settings, message in [
        ({"format": "poem"}, "format is 'poem'"),
        ({"chunk": 0}, "chunk is 0"),
        ({"on_error": "ignore"}, "on_error"),
        ({"contract": "yes-token"}, "expected itemised"),
    ]:
        with pytest.raises(SpecError, match=message):
            NuggetJudge(engine, **settings)  # type: ignore[arg-type]
    judges = [NuggetJudge(engine), NuggetJudge(engine, format="csv"), NuggetJudge(engine, chunk=5),
              NuggetJudge(engine, on_missing="drop"), NuggetJudge(engine, values={S: 1.0, P: 0.0, N: 0.0})]  # fmt: skip
    assert len({judge.fingerprint() for judge in judges}) == len(judges)
    assert isinstance(Resolver(lambda: engine).resolve("nuggets"), NuggetJudge)


def test_a_contract_of_ones_own_can_have_other_labels() -> None:
    contract = Contract(
        "short", "{{ response }}{% for name, item in items %}|{{ item }}{% endfor %}", TextReadout(function=f"{__name__}:y_n"),
        kind="itemised", layout="text",
    )  # fmt: skip
    assert NuggetJudge(ScriptedEngine(lambda _: "yn"), contract).score(one("x", ["a", "b"])).values.tolist() == [0.5]


def y_n(text: str, count: int):  # type: ignore[no-untyped-def]
    from plaudit.rewards.generative import ParsedList

    return ParsedList(Status.OK, tuple(float(letter == "y") for letter in text[:count]), tuple(text[:count]))


def test_exact_match_is_asked_first_and_the_judge_only_where_it_fails() -> None:
    engine = ScriptedEngine(by_words)
    both = exact_or_judge(NuggetJudge(engine))
    batch = Batch(["q"] * 4, ["ada.", "It was Ada", "Bob", "Eve"], references=["Ada", "Ada", "Ada", None])
    scores = both.score(batch)
    assert scores.values.tolist() == pytest.approx([1.0, 1.0, 0.0, math.nan], nan_ok=True)
    assert scores.status.tolist() == [0, 0, 0, Status.MISSING_REFERENCE]
    assert len(engine.sent) == 2
    assert scores.parts["nuggets"].isnan().tolist() == [True, False, False, True]


def test_the_training_reward_reads_gold_and_format_from_the_batch() -> None:
    texts = [write_labels([S, N], "csv", reasoning="r"), write_labels([S, N], "csv", reasoning="r"), "poem"]
    batch = Batch(["q"] * 4, [*texts, None], references=[[S, N]] * 4, extras={"format": ["csv", "json", "csv", "csv"]})
    scores = NuggetReward().score(batch)
    assert scores.values.tolist()[:3] == pytest.approx([1.0, 0.9, 0.0])
    assert scores.status.tolist() == [0, 0, 0, Status.NOT_APPLICABLE]
    assert torch.equal(NuggetReward(format="csv").score(Batch(["q"], texts[:1], references=[[S, N]])).values, torch.ones(1))
