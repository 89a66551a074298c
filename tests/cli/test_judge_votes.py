"""`plaudit judge --votes`: the curve and the cost in the summary, nothing asked twice, what cannot vote is refused."""

import json

import pytest

REWARD = '''
import torch
from plaudit import BaseReward, Scores, Status


class Wavering(BaseReward):
    """The longer answer is better in three votes of four; every ninth vote is not readable."""

    name = "wavering"

    def __init__(self):
        self.settings = {}

    def score(self, batch, ctx=None):
        ctx.budget.spend(reward_calls=len(batch))
        sign = -1.0 if ctx.seed % 4 == 3 else 1.0
        values = torch.tensor([sign * len(text) for text in batch.responses])
        return Scores(values, torch.full((len(batch),), int(Status.UNPARSABLE if ctx.seed % 9 == 8 else Status.OK)))


votes = Wavering()
'''
ROWS = [{"prompt": f"q{n}", "chosen": "long" * (n + 2), "rejected": "short"} for n in range(6)]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "wavering.py").write_text(REWARD, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return ("judge", "rows.jsonl", "--reward", "wavering.py:votes")


def test_the_summary_says_what_votes_are_worth_and_what_they_cost(plaudit, files):
    code, shown, _ = plaudit(*files, "--votes", "9", "--json")
    found = json.loads(shown)["votes"]
    assert code == 0
    assert (found["votes"], found["cast"], found["without_number"]) == (9, 108, 12)
    assert found["spent"] == {"reward_calls": 108}
    curve = {point["k"]: point["accuracy"]["estimate"]["mean"] for point in found["curve"]}
    assert curve[1] == pytest.approx(6 / 8)
    assert curve[9] == 1.0
    again = json.loads(plaudit(*files, "--votes", "9", "--json")[1])["votes"]
    assert again.pop("spent") == {}
    assert again == {name: value for name, value in found.items() if name != "spent"}
    more = json.loads(plaudit(*files, "--votes", "10", "--json")[1])["votes"]
    assert more["spent"] == {"reward_calls": 12}


def test_the_table_the_rows_and_the_report_show_the_votes(plaudit, files, tmp_path):
    code, shown, _ = plaudit(*files, "--votes", "4", "--combine", "majority", "--out", "rows.out.jsonl", "--report", "r.html")
    assert code == 0
    assert "4 votes, counted by majority" in shown
    assert "two votes agree in 50.0 %" in shown
    first = json.loads((tmp_path / "rows.out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    verdicts = first["responses"][0]["verdicts"]
    assert [verdict["name"] for verdict in verdicts] == ["vote 1", "vote 2", "vote 3", "vote 4"]
    assert [verdict["value"] > 0 for verdict in verdicts] == [True, True, True, False]
    assert "4, counted by majority" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_reward_that_draws_nothing_has_no_votes_and_no_temperature(plaudit, files):
    for options in (("--reward", "brevity", "--votes", "3"), ("--reward", "brevity", "--temperature", "0.5")):
        code, _, said = plaudit("judge", "rows.jsonl", *options)
        assert code == 2
        assert "brevity" in said
