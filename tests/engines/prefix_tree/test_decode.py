"""Decoding from shared prompts against full forward passes, and against the padded path."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plaudit.engines.decoding import Continuation, PaddedStepper, continue_batch
from plaudit.engines.prefix_tree.decode import FIRST_ROOM, TreeStepper, decoding_mode, plan_rows
from plaudit.types import Sampling
from tests.engines.prefix_tree.families import SERVED, model

MODELS = {}
PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=7)
SHARED = [[1, 2, 3, 4], [1, 2, 3], [5], [1, 2, 3, 4], [1, 2, 3, 4], [7, 8, 9, 1, 2, 3], [5]]


def loaded(family):
    if family not in MODELS:
        MODELS[family] = model(family)
    return MODELS[family]


def full_logits(lm, row):
    return lm(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]


def check_steps(lm, prompts, script):
    """Follow a script of (token of each first row, rows to keep); logits must be those of full passes at each step."""
    texts = [list(prompt) for prompt in prompts]
    with torch.no_grad(), decoding_mode(lm):
        stepper = TreeStepper(lm, lm.base_model)
        logits = stepper.prefill(prompts)
        for keep in [None, *script]:
            if keep is not None:
                if len(keep) < len(texts):
                    texts = [texts[row] for row in keep]
                    stepper.keep(keep)
                tokens = [(7 * row + len(text)) % 64 for row, text in enumerate(texts)]
                logits = stepper.step(tokens)
                texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
            found = logits.clone()
            lm.set_attn_implementation("sdpa")
            wanted = torch.stack([full_logits(lm, text) for text in texts])
            lm.set_attn_implementation("plaudit_decode")
            torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("family", SERVED)
@given(prompts=PROMPTS, data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_step_equals_a_full_pass(family, prompts, data):
    script, rows = [], len(prompts)
    for _ in range(data.draw(st.integers(0, 5))):
        keep = sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1))) if data.draw(st.booleans()) else list(range(rows))
        script.append(keep)
        rows = len(keep)
    check_steps(loaded(family), prompts, script)


@pytest.mark.parametrize("family", SERVED)
def test_rows_that_leave_one_after_the_other(family):
    """Slots stay empty, then buffers are copied without them; prompts go when their last row goes."""
    left = list(range(len(SHARED)))
    script = [left]
    for gone in (3, 0, 2, 0, 0, 1):
        rows = list(range(len(script[-1])))
        script += [[row for row in rows if row != gone], list(range(len(rows) - 1))]
    check_steps(loaded(family), SHARED, script)


def test_the_room_for_own_tokens_grows():
    check_steps(loaded("llama"), [[1, 2, 3], [1, 2, 3], [4]], [[0, 1, 2]] * (FIRST_ROOM + 3) + [[0, 2]] * FIRST_ROOM)


def run(lm, prompts, how, *, tree, rooms=None, ends=frozenset()):
    rows = [
        Continuation(prompt, seed=row, room=how.max_tokens if rooms is None else rooms[row]) for row, prompt in enumerate(prompts)
    ]

    def go(stepper):
        continue_batch(stepper, rows, how, ends=ends, decode=lambda tokens: "".join(chr(40 + token) for token in tokens))

    if tree:
        with decoding_mode(lm):
            go(TreeStepper(lm, lm.base_model))
    else:
        go(PaddedStepper(lm, pad=0))
    return [(row.tokens, row.finish, row.text) for row in rows]


CASES = {
    "greedy": {"how": Sampling(max_tokens=9)},
    "sampled": {"how": Sampling(max_tokens=9, temperature=1.3, top_p=0.9, seed=2)},
    "one token": {"how": Sampling(max_tokens=1, temperature=1.0)},
    "rooms": {"how": Sampling(max_tokens=9, temperature=1.0), "rooms": [3, 0, 8, 1, 5, 7, 2]},
    "ends": {"how": Sampling(max_tokens=30, temperature=2.0), "ends": frozenset(range(0, 64, 9))},
    "stops": {"how": Sampling(max_tokens=30, temperature=2.0, stop=("*", "Q", "7"))},
}


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prompts", [SHARED, [[3, 1]], [[3, 1]] * 7, [[3, 1, row] for row in range(7)]])
def test_tokens_are_those_of_the_padded_path(family, case, prompts):
    given = dict(CASES[case])
    if "rooms" in given:
        given["rooms"] = given["rooms"][: len(prompts)]
    ours = run(loaded(family), prompts, tree=True, **given)
    assert ours == run(loaded(family), prompts, tree=False, **given)
    if case in ("ends", "stops") and len(prompts) == 7:
        assert len({len(tokens) for tokens, _, _ in ours}) > 1
        assert "complete" in {finish for _, finish, _ in ours}


def test_nothing_in_nothing_out():
    assert run(loaded("llama"), [], Sampling(), tree=True) == []
    assert run(loaded("llama"), [[1]], Sampling(max_tokens=0), tree=True) == [([], "truncated", "")]
    with pytest.raises(ValueError, match="empty prompt"):
        run(loaded("llama"), [[1], []], Sampling(), tree=True)


def test_a_prompt_is_computed_and_kept_once():
    lm, seen = loaded("llama"), []
    hook = lm.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        run(lm, [[1, 2, 3, 4]] * 5 + [[1, 2, 3, 9]], Sampling(max_tokens=3), tree=True)
    finally:
        hook.remove()
    assert seen == [5, 6, 6]


def test_the_model_is_left_as_it_was():
    lm = loaded("llama")
    before = lm.config._attn_implementation
    with pytest.raises(ValueError, match="outside of the vocabulary"):
        run(lm, [[64]], Sampling(), tree=True)
    assert lm.config._attn_implementation == before


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), max_size=30), st.integers(1, 20), st.integers(1, 9))
def test_batches_hold_every_row_once_within_bounds(prompts, max_tokens, most_rows):
    batches = plan_rows(prompts, max_tokens, most_rows)
    assert sorted(row for batch in batches for row in batch) == list(range(len(prompts)))
    for batch in batches:
        assert 1 <= len(batch) <= most_rows
        distinct = {tuple(prompts[row]) for row in batch}
        assert len(distinct) * max(map(len, distinct)) <= max_tokens or len(distinct) == 1
        most = max(sum(tuple(prompts[row]) == prompt for row in batch) for prompt in distinct)
        assert len(distinct) * most <= 2 * len(batch)


def test_rows_of_a_prompt_stay_together():
    prompts = [[number % 3, 5] for number in range(12)]
    assert [sorted(batch) for batch in plan_rows(prompts, 100)] == [list(range(12))]
    assert sorted(len(batch) for batch in plan_rows([[1]] * 130, 100)) == [2, 64, 64]
