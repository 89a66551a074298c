"""Refinement with a critique and step beams, over generators and rewards that are known exactly."""

import itertools
import math

import pytest
import torch

from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.steps import StepJudge
from plaudit.search.refine import Refine, ask_again, step_critique
from plaudit.search.step_beams import StepBeams
from plaudit.search.work import Candidate
from plaudit.types import Batch, Budget, EngineError, Generator, Sampling, Scores, Status, Trajectories, UserError, Verdict
from tests.rewards.generative.scripted import ScriptedEngine

HOW = Sampling(max_tokens=4, temperature=1.0)


class Writer(Generator):
    """Writes what `say(prompt, number of the sample, seed)` gives: (text, whether the model itself ended it)."""

    def __init__(self, say):
        self.say, self.asked = say, []
        self.sampling = HOW

    def modules(self):
        return {}

    def rollout(self, prompts, n, *, how, start=None, seed):
        self.asked += list(prompts.prompts)
        said = [self.say(prompt, number, seed) for prompt in prompts.prompts for number in range(n)]
        rows = [row for row in range(len(prompts)) for _ in range(n)]
        batch = prompts.select(rows)
        batch.responses, batch.groups = [text for text, _ in said], torch.tensor(rows)
        batch.lengths = [len(text) for text, _ in said]
        batch.finish = ["complete"] * len(rows)
        mask = torch.zeros(len(rows), 8, dtype=torch.bool)
        for row, (text, ended) in enumerate(said):
            mask[row, : len(text) + ended] = True
        return Trajectories(batch, torch.zeros(mask.shape), mask, how=how)

    def encode(self, batch, *, seed):
        raise NotImplementedError

    def evaluate(self, t, *, need=("log_prob",), steps=None, part=None):
        raise NotImplementedError


class Rated(BaseReward):
    """The number that `value(text)` gives; None: no number. Can be switched off."""

    name = "rated"

    def __init__(self, value):
        self.value, self.settings, self.gone = value, {}, False

    def score(self, batch, ctx=None):
        if self.gone:
            raise EngineError("switched off")
        (ctx.budget if ctx else Budget()).spend(reward_calls=len(batch))
        values = [self.value(text) for text in batch.responses]
        return Scores(
            torch.tensor([math.nan if value is None else float(value) for value in values]),
            torch.tensor([Status.UNPARSABLE if value is None else Status.OK for value in values]),
        )


# -- step beams ------------------------------------------------------------------------------------------------------------


def digit_steps(length, digits="0123"):
    """Steps are digits, a number of them an answer; sample i writes digit i."""

    def say(prompt, number, seed):
        begun = prompt.split("=")[1]
        written = [part for part in begun.split("\n") if part]
        return digits[number % len(digits)], len(written) + 1 == length

    return say


def weighed(text):
    """A digit is worth more, the later it stands: known exactly, and best found by looking at every step."""
    return sum((place + 1) * int(digit) for place, digit in enumerate(part for part in text.split("\n") if part))


def test_beams_find_the_best_of_all_answers():
    writer = Writer(digit_steps(3))
    result = StepBeams(beams=4, branches=4, how=HOW).run(writer, Rated(weighed), Batch(["a=", "b="]), budget=Budget(), seed=0)
    exhaustive = max(("\n".join(chosen) for chosen in itertools.product("0123", repeat=3)), key=weighed)
    assert result.batch.responses == [exhaustive] * 2
    assert result.scores.values.tolist() == [weighed(exhaustive)] * 2
    assert result.stopped is None


def test_what_was_spent_is_what_was_done():
    writer, budget = Writer(digit_steps(3)), Budget()
    result = StepBeams(beams=2, branches=3, how=HOW).run(writer, Rated(weighed), Batch(["a="]), budget=budget, seed=0)
    assert result.spent["samples"] == 2 * 3 * 3  # beams x branches, at each of three steps
    assert result.spent["reward_calls"] == result.spent["samples"] == len(result.history)
    assert result.spent["sampled_tokens"] == result.spent["samples"]  # a digit each


def test_a_beginning_goes_on_after_its_mark():
    writer = Writer(digit_steps(2))
    StepBeams(beams=1, branches=2, how=HOW).run(writer, Rated(weighed), Batch(["a="]), budget=Budget(), seed=0)
    assert writer.asked == ["a=", "a=1\n"]


def test_beginnings_without_a_number_never_go_on():
    silent = Rated(lambda text: None if "3" in text else weighed(text))
    result = StepBeams(beams=2, branches=4, how=HOW).run(Writer(digit_steps(2)), silent, Batch(["a="]), budget=Budget(), seed=0)
    assert result.batch.responses == ["2\n2"]
    nothing = StepBeams(beams=2, branches=4, how=HOW).run(
        Writer(digit_steps(2)), Rated(lambda text: None), Batch(["a="]), budget=Budget(), seed=0
    )
    assert Status(int(nothing.scores.status[0])) is Status.UNPARSABLE


def test_an_answer_that_is_over_keeps_its_place():
    def say(prompt, number, seed):
        begun = prompt.split("=")[1]
        return ("9", True) if number == 0 and not begun else ("1", begun.count("\n") == 2)

    result = StepBeams(beams=2, branches=2, how=HOW).run(Writer(say), Rated(weighed), Batch(["a="]), budget=Budget(), seed=0)
    assert result.batch.responses == ["9"]
    assert max(one["step"] for one in result.history) == 2


def test_equal_values_are_decided_by_the_majority():
    texts = ["4", "5", "5", "6"]
    writer = Writer(lambda prompt, number, seed: (texts[number], True))
    equal = StepBeams(beams=2, branches=2, how=HOW, answer="whole")
    assert equal.run(writer, Rated(lambda text: 1), Batch(["a="]), budget=Budget(), seed=0).batch.responses == ["5"]


def test_the_budget_is_not_passed_and_the_search_goes_on():
    prompts, settings = Batch(["a=", "b="]), {"beams": 2, "branches": 2, "how": HOW}
    whole = StepBeams(**settings).run(Writer(digit_steps(3)), Rated(weighed), prompts, budget=Budget(), seed=0)
    for limits in ({"samples": 5}, {"samples": 9}, {"reward_calls": 6}, {"completion_tokens": 30}):
        budget = Budget(limits)
        part = StepBeams(**settings).run(Writer(digit_steps(3)), Rated(weighed), prompts, budget=budget, seed=0)
        assert all(budget.spent[name] <= limit for name, limit in limits.items())
        assert part.stopped
        rest = StepBeams(**settings).run(
            Writer(digit_steps(3)), Rated(weighed), prompts, budget=Budget(), seed=0, state=part.state
        )
        assert rest.stopped is None
        assert rest.scores.values.tolist() == whole.scores.values.tolist()


def test_a_judge_that_is_gone_ends_the_search_with_what_there_is():
    reward = Rated(weighed)
    reward.gone = True
    part = StepBeams(beams=2, branches=2, how=HOW).run(Writer(digit_steps(2)), reward, Batch(["a="]), budget=Budget(), seed=0)
    assert "cannot be reached" in part.stopped
    reward.gone = False
    rest = StepBeams(beams=2, branches=2, how=HOW).run(
        Writer(digit_steps(2)), reward, Batch(["a="]), budget=Budget(), seed=0, state=part.state
    )
    assert rest.scores.ok[0]


@pytest.mark.parametrize("settings", [{"beams": 0}, {"steps": 0}, {"mark": ""}, {"answer": "unknown"}])
def test_beams_that_cannot_work(settings):
    with pytest.raises(UserError):
        StepBeams(**settings)


def test_beams_need_chance_and_text():
    with pytest.raises(UserError, match="temperature"):
        StepBeams(how=Sampling()).run(Writer(digit_steps(2)), Rated(weighed), Batch(["a="]), budget=Budget(), seed=0)
    chat = Batch([[{"role": "user", "content": "a"}]])
    with pytest.raises(UserError, match="plain text"):
        StepBeams(how=HOW).run(Writer(digit_steps(2)), Rated(weighed), chat, budget=Budget(), seed=0)


def test_a_real_generator_ends_its_own_answers():
    from plaudit.generators.language import tiny_decoder
    from plaudit.search.step_beams import continued

    model = tiny_decoder("ab;", layers=1, width=16, heads=2, context=32, seed=0)
    how = Sampling(max_tokens=6, temperature=1.0, stop=(";",))
    batch, over = continued(model, Batch(["a"]), 200, how, 0, Budget())
    drawn = model.rollout(Batch(["a"]), 200, how=Sampling(max_tokens=6, temperature=1.0), seed=0)
    # the same draws without the stop: what holds a mark was stopped there, everything else was over
    assert over == [";" not in text for text in drawn.batch.responses]
    assert batch.responses == [text.split(";")[0] for text in drawn.batch.responses]


# -- refinement ------------------------------------------------------------------------------------------------------------


def corrected(prompt, number, seed):
    """Adds one to its answer for each critique in the chat."""
    turns = 0 if isinstance(prompt, str) else sum(message["role"] == "assistant" for message in prompt)
    return str(turns), True


def below(goal):
    return lambda candidate: f"{candidate.response} is below {goal}" if int(candidate.response) < goal else None


@pytest.mark.parametrize(("goal", "turns", "answer", "samples"), [(2, 3, "2", 3), (5, 3, "3", 4), (0, 3, "0", 1), (2, 0, "0", 1)])
def test_answers_until_nothing_is_wrong(goal, turns, answer, samples):
    writer, budget = Writer(lambda *given: corrected(*given)), Budget()
    # each turn is asked with the original prompt, the answer and its critique: the chat does not grow
    search = Refine(
        turns=turns, critique=below(goal), follow_up=lambda p, a, c: [{"role": "assistant", "content": ""}] * (int(a) + 1)
    )
    result = search.run(writer, Rated(int), Batch(["p"]), budget=budget, seed=0)
    assert result.batch.responses == [answer]
    assert result.spent["samples"] == result.spent["reward_calls"] == samples
    assert [one["turn"] for one in result.history] == list(range(samples))


def test_prompts_go_their_own_ways_and_keep_what_was_best():
    texts = {"a": ["1", "5", "3"], "b": ["4"]}

    def say(prompt, number, seed):
        name, turn = (prompt, 0) if isinstance(prompt, str) else (prompt[0]["content"], int(prompt[1]["content"]))
        return texts[name][turn], True

    count = {"a": 0}

    def follow(prompt, answer, critique):
        count[prompt] += 1
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": str(count[prompt])}]

    settings = {"turns": 2, "critique": lambda one: None if one.response == "4" else "no", "follow_up": follow}
    last = Refine(**settings).run(Writer(say), Rated(int), Batch(["a", "b"]), budget=Budget(), seed=0)
    assert last.batch.responses == ["3", "4"]
    assert last.batch.prompts == ["a", "b"]  # judged and given under the prompt's own text
    count["a"] = 0
    best = Refine(keep="best", **settings).run(Writer(say), Rated(int), Batch(["a", "b"]), budget=Budget(), seed=0)
    assert best.batch.responses == ["5", "4"]


def test_a_missing_number_ends_the_turns():
    search = Refine(critique=lambda one: "wrong")
    writer = Writer(corrected)
    result = search.run(writer, Rated(lambda text: None), Batch(["p"]), budget=Budget(), seed=0)
    assert len(writer.asked) == 1
    assert not result.scores.ok[0]


def test_refinement_within_a_budget_and_on():
    search = Refine(critique=below(9), follow_up=lambda p, a, c: [{"role": "assistant", "content": ""}] * (int(a) + 1))
    budget = Budget({"samples": 5})
    part = search.run(Writer(corrected), Rated(int), Batch(["p", "q"]), budget=budget, seed=0)
    assert budget.spent["samples"] == 5
    assert "turn 2" in part.stopped
    rest = search.run(Writer(corrected), Rated(int), Batch(["p", "q"]), budget=Budget(), seed=0, state=part.state)
    assert rest.batch.responses == ["3", "3"]
    assert rest.spent["samples"] == 3


def test_the_critique_of_a_step_judge_quotes_the_step_and_its_analysis():
    engine = ScriptedEngine(
        lambda request: "the sum is 24",
        lambda request: {"Yes": 0.9, "No": 0.1} if "Paragraph 1," in request.prefix else {"No": 1.0},
    )
    judge = StepJudge(engine, verify=False)
    asked = []
    writer = Writer(lambda prompt, number, seed: asked.append(prompt) or ("Step 1: 7+8=15\nStep 2: 15+9=25", True))
    result = Refine(turns=1).run(writer, judge, Batch(["7+8+9"]), budget=Budget(), seed=0)
    assert len(result.history) == 2
    assert asked[1][0] == {"role": "user", "content": "7+8+9"}
    assert asked[1][1]["role"] == "assistant"
    assert asked[1][2]["content"].startswith("> Step 2: 15+9=25\n\nThis step is wrong: Paragraph 2, step by step: the sum is 24")


@pytest.mark.parametrize(
    ("values", "quoted"), [([0.9, 0.2], "> b"), ([0.4, 0.2], "> a"), ([0.9, 0.9], None), ([None, 0.1], None), ([], None)]
)
def test_which_step_is_criticised(values, quoted):
    verdicts = [
        Verdict(value=value, name=f"step {number + 1}", text="because", status=Status.OK if value is not None else Status.FAILED)
        for number, value in enumerate(values)
    ]
    said = step_critique(Candidate(0, "a\n\nb", verdicts=verdicts))
    assert said is None if quoted is None else said.startswith(quoted) and "because" in said


def test_asking_again_keeps_a_chat_that_was_one():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert [turn["role"] for turn in ask_again(chat, "a", "c")] == ["system", "user", "assistant", "user"]
    with pytest.raises(UserError):
        Refine(keep="first")
