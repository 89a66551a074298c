"""Which sampled answers become traces, and what becomes of the items."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.curation.traces import build_traces, select_traces, written_by
from plaudit.rewards.generative.judging_prompts import VerdictReward
from plaudit.types import Batch, Generation, Sampling, Scores, Status
from tests.rewards.generative.scripted import ScriptedEngine

NAN = float("nan")


def answers_of(*groups, finish=None):
    """Answers by item: each a (text, value) pair."""
    flat = [(number, text, value) for number, group in enumerate(groups) for text, value in group]
    batch = Batch([f"item {number}" for number, _, _ in flat], [text for _, text, _ in flat],
                  groups=torch.tensor([number for number, _, _ in flat]), finish=finish)  # fmt: skip
    values = torch.tensor([value for _, _, value in flat])
    return batch, Scores(values, torch.where(values.isnan(), int(Status.UNPARSABLE), 0))


def test_the_filters():
    easy, mixed, never = [("a", 1.0), ("b", 1.0)], [("c", 0.0), ("d", 1.0), ("e", NAN)], [("f", 0.0), ("g", NAN)]
    traces, left, report = select_traces(*answers_of(easy, mixed, never))
    assert traces.responses == ["d"]
    assert left == [[5, 6]]
    assert (report.items, report.answers, report.kept) == (3, 7, 1)
    assert (report.always_right, report.never_right) == (1, 1)
    assert (report.wrong, report.unscored, report.surplus) == (2, 2, 2)
    assert select_traces(*answers_of(easy, mixed), drop_always_right=False)[2].kept == 2


def test_one_answer_is_no_evidence_of_an_easy_item():
    assert select_traces(*answers_of([("a", 1.0)]))[2].kept == 1


def test_cut_off_repeated_and_refused_answers():
    batch, scores = answers_of([("a", 1.0), ("a", 1.0), ("hint", 1.0), ("cut", 1.0), ("no", 0.0)],
                               finish=["complete"] * 3 + ["truncated", "complete"])  # fmt: skip
    traces, _, report = select_traces(batch, scores, per_item=None, accept=lambda text: "hint" not in text)
    assert traces.responses == ["a"]
    assert (report.repeated, report.refused, report.truncated, report.wrong) == (1, 1, 1, 1)


def test_the_shortest_and_the_random_ones():
    group = [("long text", 1.0), ("mid te", 1.0), ("ab", 1.0), ("no", 0.0)]
    assert select_traces(*answers_of(group), prefer="shortest", per_item=2)[0].responses == ["mid te", "ab"]
    drawn = {select_traces(*answers_of(group), seed=seed)[0].responses[0] for seed in range(30)}
    assert drawn == {"long text", "mid te", "ab"}
    with pytest.raises(ValueError, match="3 scores"):
        select_traces(answers_of(group)[0], Scores(torch.zeros(3)))


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=5), min_size=1)
)
def test_every_answer_is_counted_once(groups):
    traces, left, report = select_traces(*answers_of(*groups))
    counted = (report.kept, report.wrong, report.unscored, report.truncated, report.repeated, report.refused, report.surplus)
    assert sum(counted) == report.answers
    assert len(traces) == report.kept == report.items - report.always_right - report.never_right
    assert report.never_right == len(left)


def answer(request):
    """Right about items whose number is even; about the others only when it is told."""
    text = str(request.messages)
    return "told: verdict\nVerdict: correct" if "HINT correct" in text or "even" in text else "Verdict: incorrect"


def test_the_second_pass_forgets_the_hint():
    items = Batch(["even one", "odd one", "odd two"], references=["correct", "correct", "incorrect"])
    write = written_by(ScriptedEngine(answer), Sampling())
    verdict = VerdictReward("reason-then-verdict")
    traces, report = build_traces(write, items, verdict, samples=2, drop_always_right=False)
    assert traces.prompts == ["even one", "odd two"]
    assert (report.kept, report.never_right, report.hinted) == (2, 1, 0)
    traces, report = build_traces(write, items, verdict, samples=2, drop_always_right=False,
                                  hint=lambda prompt, gold: f"{prompt} HINT {gold}")  # fmt: skip
    assert traces.prompts == ["even one", "odd two", "odd one"]
    assert traces.extras["hinted"] == [False, False, True]
    assert (report.kept, report.never_right, report.hinted, report.answers) == (3, 0, 1, 8)
    assert len(set(traces.groups.tolist())) == 3


def test_a_failed_row_of_an_engine_is_no_trace():
    engine = ScriptedEngine(lambda request: Generation("", "truncated", Status.FAILED, "gone"))
    traces, report = build_traces(written_by(engine, Sampling()), Batch(["x"], references=["correct"]),
                                  VerdictReward("reason-then-verdict"), samples=3)  # fmt: skip
    assert len(traces) == 0
    assert (report.truncated, report.never_right) == (3, 1)
    with pytest.raises(ValueError, match="at least one"):
        build_traces(written_by(engine, Sampling()), Batch(["x"]), VerdictReward("reason-then-verdict"), samples=0)
