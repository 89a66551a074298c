"""Judges on a scripted engine: what is asked, how answers become numbers, and what every failure becomes."""

from __future__ import annotations

import math
import zlib

import pytest
import torch

from plaudit.rewards.generative import Judge, contract_from_mapping, load_contract, rubric_contract
from plaudit.types import Batch, Budget, BudgetExceeded, Context, Generation, Request, Sampling, SpecError, Status
from tests.rewards.generative.scripted import ScriptedEngine, user_text

YES = {"Yes": 0.5, " yes": 0.1, "No": 0.2, "NOT": 0.2}
ONE = Batch(["What is 2 + 2?"], ["4"])


def pair(*responses: str, prompt: str = "Which is better?") -> tuple[Batch, torch.Tensor, torch.Tensor]:
    return Batch([prompt] * len(responses), list(responses)), torch.tensor([0]), torch.tensor([1])


def test_probability_is_normalised_over_the_labels_and_the_mass_is_kept() -> None:
    scores = Judge(ScriptedEngine(odds=lambda _: YES), "yes-token").score(ONE)
    assert scores.values.tolist() == pytest.approx([0.6 / 0.8])
    assert scores.spread is not None
    assert scores.spread.tolist() == pytest.approx([math.sqrt(0.75 * 0.25)])
    assert scores.verdicts is not None
    [[verdict]] = scores.verdicts
    assert (verdict.choice, verdict.detail) == ("yes", "mass 0.8000")


def test_scale_is_the_expected_score_on_its_own_units() -> None:
    scores = Judge(ScriptedEngine(odds=lambda _: {"1": 0.1, "5": 0.1, "3": 0.2}), "scale").score(ONE)
    assert scores.values.tolist() == pytest.approx([3.0])
    assert scores.spread is not None
    assert scores.spread.tolist() == pytest.approx([math.sqrt(2)])


@pytest.mark.parametrize(
    ("odds", "status"),
    [
        ({"Yes": 0.0004, "No": 0.0003}, Status.UNPARSABLE),
        ({}, Status.UNPARSABLE),
        ({"Yes": math.nan, "No": 0.3}, Status.NOT_A_NUMBER),
        (Status.TOO_LONG, Status.TOO_LONG),
        (Status.UNREACHABLE, Status.UNREACHABLE),
    ],
)
def test_what_is_no_answer_becomes_a_status(odds: dict[str, float] | Status, status: Status) -> None:
    batch = Batch(["a", "b"], ["bad", "good"])
    engine = ScriptedEngine(odds=lambda request: odds if "bad" in user_text(request) else YES)
    scores = Judge(engine, "yes-token").score(batch)
    assert scores.status.tolist() == [status, Status.OK]
    assert scores.values.isnan().tolist() == [True, False]
    assert scores.verdicts is not None
    assert scores.verdicts[0][0].detail


def test_an_option_that_was_not_shown_is_an_upper_bound_and_noted() -> None:
    scores = Judge(ScriptedEngine(odds=lambda _: {"Yes": 0.9}, floor=math.log(0.01)), "yes-token").score(ONE)
    assert scores.values.tolist() == pytest.approx([0.9 / 0.91])
    assert scores.verdicts is not None
    assert "not shown by the engine, upper bound used: no" in scores.verdicts[0][0].detail
    hidden = Judge(ScriptedEngine(odds=lambda _: {"Maybe": 0.9}, floor=math.log(0.01)), "yes-token").score(ONE)
    assert hidden.status.tolist() == [Status.UNPARSABLE]


def test_rows_that_cannot_be_asked_about_are_not_sent() -> None:
    engine = ScriptedEngine(odds=lambda _: YES)
    batch = Batch(["a", "b", "c", "d"], [None, torch.zeros(3), [{"role": "assistant", "content": "hello"}], ""])
    scores = Judge(engine, "yes-token").score(batch)
    assert scores.status.tolist() == [Status.NOT_APPLICABLE, Status.NOT_APPLICABLE, Status.OK, Status.OK]
    assert len(engine.sent) == 2
    assert len(Judge(engine, "yes-token").score(Batch([], []))) == 0


def test_reference_is_shown_only_where_it_is_there_and_may_be_needed() -> None:
    engine = ScriptedEngine(odds=lambda _: YES)
    batch = Batch(["q", "q", "q"], ["x", "x", "x"], references=["four", None, ""])
    Judge(engine, "yes-token").score(batch)
    assert sorted("<reference>" in user_text(request) for request in engine.sent) == [False, True]  # equal requests go once
    needed = contract_from_mapping("strict", {"base": "yes-token", "reference": "needed"})
    scores = Judge(engine, needed).score(batch)
    assert scores.status.tolist() == [Status.OK, Status.MISSING_REFERENCE, Status.MISSING_REFERENCE]
    assert Judge(engine, needed).score(ONE).status.tolist() == [Status.MISSING_REFERENCE]


def first_wins(request: Request) -> dict[str, float]:
    """A judge that prefers "good" and leans to what is shown first."""
    good_first = "<response_a>\ngood" in user_text(request)
    return {"A": 0.6, "B": 0.1, "tie": 0.1} if good_first else {"A": 0.3, "B": 0.3, " tie": 0.2}


def test_pairs_are_judged_in_both_orders_and_symmetrised() -> None:
    batch, first, second = pair("good", "poor")
    judged = Judge(ScriptedEngine(odds=first_wins), "verdict").compare(batch, first, second)
    shown, swapped = (0.6 + 0.05) / 0.8, 1 - 0.5
    assert judged.prob.tolist() == pytest.approx([(shown + swapped) / 2])
    assert judged.tie is not None
    assert judged.tie.tolist() == pytest.approx([(0.1 / 0.8 + 0.2 / 0.8) / 2])
    assert judged.verdicts is not None
    [verdicts] = judged.verdicts
    assert [verdict.order for verdict in verdicts] == [(0, 1), (1, 0)]
    assert [verdict.value for verdict in verdicts] == pytest.approx([shown, swapped])
    assert [verdict.choice for verdict in verdicts] == ["A", "A"]


def test_swapping_a_pair_is_exact() -> None:
    batch = Batch(["q"] * 40, [f"good {place}" if place % 3 else f"poor {place}" for place in range(40)])
    first, second = torch.arange(20), torch.arange(20, 40)

    def odds(request: Request) -> dict[str, float]:
        drawn = zlib.crc32(user_text(request).encode())
        return {"A": drawn % 997 / 2000 + 0.1, "B": drawn % 331 / 2000 + 0.001}

    judge = Judge(ScriptedEngine(odds=odds), "verdict")
    there, back = judge.compare(batch, first, second), judge.compare(batch, second, first)
    assert torch.equal(there.prob + back.prob, torch.ones(20))


def test_one_order_without_a_verdict_leaves_the_pair_without_one() -> None:
    batch, first, second = pair("good", "poor")
    engine = ScriptedEngine(lambda r: "Verdict: A" if "<response_a>\ngood" in user_text(r) else "Verdict: A or B")
    judged = Judge(engine, "verdict-text").compare(batch, first, second)
    assert judged.status.tolist() == [Status.UNPARSABLE]
    assert judged.prob.isnan().all()
    assert judged.verdicts is not None
    assert [verdict.value for verdict in judged.verdicts[0]] == [1.0, None]


def test_text_verdicts_keep_text_seed_and_tie() -> None:
    batch, first, second = pair("good", "poor")
    engine = ScriptedEngine(lambda r: "Fine.\nVerdict: tie" if "<response_a>\ngood" in user_text(r) else "Bad.\nVerdict: B")
    judged = Judge(engine, "reason-then-compare", sampling=Sampling(seed=7, temperature=0.5)).compare(batch, first, second)
    assert judged.prob.tolist() == [0.75]
    assert judged.tie is not None
    assert judged.tie.tolist() == [0.5]
    assert judged.verdicts is not None
    assert [(verdict.text, verdict.seed) for verdict in judged.verdicts[0]] == [
        ("Fine.\nVerdict: tie", 7),
        ("Bad.\nVerdict: B", 7),
    ]


def test_what_a_judge_does_not_do_itself_follows_from_what_it_does() -> None:
    engine = ScriptedEngine(odds=lambda r: first_wins(r) if "response_a" in user_text(r) else YES)
    batch, first, second = pair("good", "poor")
    assert Judge(engine, "yes-token").compare(batch, first, second).prob.tolist() == [0.5]
    grouped = Batch(batch.prompts, batch.responses, groups=torch.tensor([0, 0]))
    good, poor = Judge(engine, "verdict").score_group(grouped).values.tolist()
    assert good > 0.5 > poor
    assert Judge(engine, "rubric").score_group(grouped).ok.all()
    with pytest.raises(ValueError, match="only compares"):
        Judge(engine, "verdict").score(batch)


def test_pairs_of_different_prompts_or_references_are_not_compared() -> None:
    judge = Judge(ScriptedEngine(odds=first_wins), "verdict")
    rows = torch.tensor([0]), torch.tensor([1])
    assert judge.compare(Batch(["p", "q"], ["a", "b"]), *rows).status.tolist() == [Status.NOT_APPLICABLE]
    assert judge.compare(Batch(["p", "p"], ["a", "b"], references=["x", "y"]), *rows).status.tolist() == [Status.NOT_APPLICABLE]


def test_generation_that_fails_or_is_cut_off_or_declines() -> None:
    answers = {
        "one": Generation("", status=Status.TIMED_OUT, detail="60 s passed"),
        "two": Generation("It is right and", finish="truncated"),
        "three": Generation("Verdict: undecided"),
        "four": Generation("Right.\nVerdict: correct"),
    }
    engine = ScriptedEngine(lambda r: next(answer for name, answer in answers.items() if f"\n{name}\n" in user_text(r)))
    scores = Judge(engine, "reason-then-verdict").score(Batch(["q"] * 4, list(answers)))
    assert scores.status.tolist() == [Status.TIMED_OUT, Status.UNPARSABLE, Status.ABSTAINED, Status.OK]
    assert scores.values.tolist()[3] == 1.0
    assert scores.verdicts is not None
    assert scores.verdicts[0][0].detail == "60 s passed"
    assert scores.spread is None


RUBRIC = {"Is it correct?": 3.0, "Is it brief?": 1.0}


def rubric_engine(silent: str = "nobody") -> ScriptedEngine:
    def odds(request: Request) -> dict[str, float]:
        text = user_text(request)
        if "brief" in text and f"\n{silent}\n" in text:
            return {"Hm": 0.9}
        return {"yes": 0.8, "no": 0.2} if "correct?" in text else {"yes": 0.4, "no": 0.6}

    return ScriptedEngine(odds=odds)


def test_rubric_is_the_weighted_mean_of_its_parts() -> None:
    scores = Judge(rubric_engine(), rubric_contract(RUBRIC)).score(ONE)
    assert scores.values.tolist() == pytest.approx([0.7])
    assert {name: part.tolist() for name, part in scores.parts.items()} == {
        "Is it correct?": pytest.approx([0.8]),
        "Is it brief?": pytest.approx([0.4]),
    }
    assert scores.spread is not None
    assert scores.spread.tolist() == pytest.approx([math.sqrt(9 * 0.16 + 0.24) / 4])


@pytest.mark.parametrize(
    ("policy", "values", "status"),
    [
        ("row", [None, 0.7, 0.7], [Status.UNPARSABLE, Status.OK, Status.OK]),
        ("drop_for_group", [0.8, 0.8, 0.7], [Status.OK] * 3),
        (0.5, [(3 * 0.8 + 0.5) / 4, 0.7, 0.7], [Status.OK] * 3),
    ],
)
def test_a_criterion_without_a_number_follows_the_stated_policy(
    policy: str | float, values: list[float | None], status: list[Status]
) -> None:
    batch = Batch(["q"] * 3, ["mute", "fine", "good"], groups=torch.tensor([0, 0, 1]))
    scores = Judge(rubric_engine("mute"), rubric_contract(RUBRIC, on_missing=policy)).score(batch)
    assert scores.status.tolist() == status
    for value, expected in zip(scores.values.tolist(), values, strict=True):
        assert math.isnan(value) if expected is None else value == pytest.approx(expected)
    assert scores.parts["Is it brief?"].isnan().tolist() == [True, False, False]
    assert scores.verdicts is not None
    notes = [verdict.detail for verdict in scores.verdicts[1]]
    assert any("left out for this group" in note for note in notes) == (policy == "drop_for_group")


def test_a_group_that_loses_all_criteria_has_no_silent_number() -> None:
    engine = ScriptedEngine(odds=lambda r: {"Hm": 1.0} if "\nmute\n" in user_text(r) else YES)
    batch = Batch(["q", "q"], ["mute", "fine"], groups=torch.tensor([0, 0]))
    scores = Judge(engine, rubric_contract(RUBRIC, on_missing="drop_for_group")).score(batch)
    assert scores.status.tolist() == [Status.UNPARSABLE, Status.ABSTAINED]


def test_fingerprint_follows_everything_that_decides_the_numbers() -> None:
    engine = ScriptedEngine()
    judges = [
        Judge(engine, "yes-token"),
        Judge(engine, contract_from_mapping("x", {"base": "yes-token", "prefix": "Answer:"})),
        Judge(engine, "reason-then-verdict"),
        Judge(engine, "reason-then-verdict", sampling=Sampling(seed=1)),
        Judge(engine, "reason-then-verdict", sampling=Sampling(seed=1, top_p=0.9)),
    ]
    assert len({judge.fingerprint() for judge in judges}) == len(judges)
    assert Judge(engine, load_contract("yes-token"), name="other", batch_size=1).fingerprint() == judges[0].fingerprint()
    default = load_contract("reason-then-verdict").readout.sampling  # type: ignore[union-attr]
    assert Judge(engine, "reason-then-verdict", sampling=default).fingerprint() == judges[2].fingerprint()


def test_native_and_budget_and_sampling() -> None:
    engine = ScriptedEngine(odds=lambda _: YES)
    assert [Judge(engine, name).native for name in ("yes-token", "rubric", "verdict")] == ["score", "score", "compare"]
    assert Judge(engine, rubric_contract(RUBRIC, on_missing="drop_for_group")).native == "score_group"
    ctx = Context(budget=Budget(limits={"reward_calls": 2}))
    Judge(engine, "yes-token").score(Batch(["a", "b"], ["x", "y"]), ctx)
    assert ctx.budget.spent["reward_calls"] == 2
    with pytest.raises(BudgetExceeded):
        Judge(engine, "yes-token").score(ONE, ctx)
    with pytest.raises(SpecError, match="takes no sampling"):
        Judge(engine, "yes-token", sampling=Sampling())


def test_the_exact_prompt_can_be_seen() -> None:
    judge = Judge(ScriptedEngine(odds=lambda _: YES), "verdict")
    batch, _, _ = pair("good", "poor")
    there, back = judge.render(batch, 0, 1)
    assert there.endswith("<|im_start|>assistant\n")
    assert there.index("good") < there.index("poor")
    assert back.index("poor") < back.index("good")
    assert len(Judge(ScriptedEngine(), rubric_contract(RUBRIC)).render(ONE)) == 2
    with pytest.raises(ValueError, match="give the rival"):
        judge.render(batch, 0)
    with pytest.raises(ValueError, match="not text"):
        Judge(ScriptedEngine(), "yes-token").render(Batch(["q"], [None]))


def test_chat_and_mapping_prompts_become_text() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    texts = [Judge(ScriptedEngine(), "yes-token").render(Batch([prompt], ["x"]))[0] for prompt in (chat, {"goal": "win"})]
    assert "user: Hi\n\nassistant: Hello" in texts[0]
    assert "goal: win" in texts[1]


def test_the_contexts_seed_reaches_sampled_judges_only():
    seen = []
    engine = ScriptedEngine(lambda request: "Verdict: correct")
    engine.generate = lambda requests, how, budget=None: seen.append(how.seed) or ScriptedEngine.generate(engine, requests, how)
    drawn = Judge(engine, "reason-then-verdict", sampling=Sampling(max_tokens=8, temperature=0.7, seed=100))
    greedy = Judge(engine, "reason-then-verdict")
    for judge in (drawn, greedy):
        judge.score(Batch(["p"], ["r"]), Context(seed=7))
    assert seen == [107, 0]
    assert (drawn.uses_seed, greedy.uses_seed, Judge(engine, "yes-token").uses_seed) == (True, False, False)
