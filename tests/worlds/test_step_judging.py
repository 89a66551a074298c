import pytest

from plaudit.engines.sandbox import Sandbox
from plaudit.worlds.faulty_chains import each_step, flawed_half, large_chains
from plaudit.worlds.step_judging import CHARACTERS, FORM, step_traces


def test_traces_hold_what_running_their_code_gives():
    steps, truth = each_step(large_chains(3, 0, flawed=1.0))
    traces = step_traces(steps, truth, generative=True)
    with Sandbox(strict=False) as sandbox:
        for step, right, prompt, text, (span,) in zip(
            steps, truth, traces.prompts, traces.responses, traces.extras["environment"], strict=True
        ):
            assert prompt == f"{step}?"
            code = text.split("`")[1]
            ran = sandbox.run(FORM.program.replace("{code}", code))
            assert text[slice(*span)] == f">{ran.stdout};"
            assert ran.stdout.strip() == str(int(right))
            assert text.endswith("!Y." if right else "!N.")
            assert set(prompt + text) <= set(CHARACTERS)


def test_a_judge_without_reasons_writes_the_verdict_alone():
    traces = step_traces(["1+1=2", "1+1=3"], [True, False], generative=False)
    assert (traces.responses, traces.extras["environment"]) == (["!Y.", "!N."], [[], []])


@pytest.mark.parametrize("right", [[True, False] * 4, [True] * 7 + [False]])
def test_half_of_each_kind(right):
    batch = large_chains(8, 0)
    chosen = flawed_half(batch, right, 6)
    size = min(3, right.count(False))
    assert len(chosen) == 2 * size
    assert chosen.responses[:size] == [text for text, ok in zip(batch.responses, right, strict=True) if ok][:size]
