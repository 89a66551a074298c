"""Generation by the local engine: greedy, sampled, stopped, cut."""

from __future__ import annotations

import pytest
import torch

from plaudit.engines.local import LocalEngine
from plaudit.types import Budget, Sampling, Status
from tests.engines.local_requests import by_hand, chat, plain_log_probs, plain_model, requests

OPTIONS = [[" Yes", "Yes", "yes"], [" No", "No", "no"]]


def test_greedy_equals_the_model_s_own_generation(engine: LocalEngine) -> None:
    model, tokenizer = plain_model(engine)
    found = engine.generate(requests(), Sampling(max_tokens=12))
    for request, generation in zip(requests(), found, strict=True):
        ids = torch.tensor([tokenizer.encode(by_hand(request), add_special_tokens=False)])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        made = whole[0, ids.shape[1] :]
        assert generation.text == tokenizer.decode(made, skip_special_tokens=True)
        assert generation.finish == ("complete" if tokenizer.eos_token_id in made.tolist() else "truncated")
        assert generation.prompt_tokens == ids.shape[1]


def test_sampling_follows_the_seed_and_the_model(llama: LocalEngine) -> None:
    same = [chat("Judge")] * 400
    how = Sampling(max_tokens=1, temperature=1.5, seed=1)
    first = [one.text for one in llama.generate(same, how)]
    assert [one.text for one in llama.generate(same, how)] == first
    assert [one.text for one in llama.generate(same, Sampling(max_tokens=1, temperature=1.5, seed=2))] != first
    probs = torch.softmax(plain_log_probs(llama, by_hand(same[0]))[-1] / 1.5, dim=-1)
    _, tokenizer = plain_model(llama)
    share: dict[str, float] = {}  # several tokens have the same text: control tokens, and parts of characters
    for token, probability in enumerate(probs.tolist()):
        text = tokenizer.decode([token], skip_special_tokens=True)
        share[text] = share.get(text, 0.0) + probability
    for text, expected in sorted(share.items(), key=lambda item: -item[1])[:5]:
        deviation = (expected * (1 - expected) / len(first)) ** 0.5
        assert first.count(text) / len(first) == pytest.approx(expected, abs=5 * deviation)


def test_equal_requests_get_samples_of_their_own_from_one_prefill(engine: LocalEngine) -> None:
    how = Sampling(max_tokens=8, temperature=1.5, seed=4)
    alone, budget = LocalEngine(engine.folder, device="cpu", max_tokens_per_batch=1), Budget()
    rows = [chat("Judge"), chat("Is it?"), chat("Judge"), chat("Judge"), chat("Is it?")]
    made = [one.text for one in engine.generate(rows, how, budget=budget)]
    assert len(set(made)) > 2
    assert [one.text for one in alone.generate(rows, how)] == made
    if engine.causal_model.tree_refused is None:
        assert budget.spent["computed_tokens"] < budget.spent["prompt_tokens"] / 2


def test_a_narrow_nucleus_is_greedy(llama: LocalEngine) -> None:
    narrow = Sampling(max_tokens=10, temperature=2.0, top_p=1e-6, seed=5)
    greedy = llama.generate(requests(), Sampling(max_tokens=10))
    assert [one.text for one in llama.generate(requests(), narrow)] == [one.text for one in greedy]


def test_nucleus_keeps_the_smallest_sufficient_set() -> None:
    from plaudit.engines.decoding import nucleus

    logs = torch.tensor([[0.1, 0.5, 0.3, 0.1], [1.0, 0.0, 0.0, 0.0]]).log()
    kept = nucleus(logs, 0.75).isfinite()
    assert kept.tolist() == [[False, True, True, False], [True, False, False, False]]
    assert nucleus(logs, 1.0) is logs


def test_stop_strings_are_cut_off(llama: LocalEngine) -> None:
    request = chat("Judge the response")
    whole = llama.generate([request], Sampling(max_tokens=30))[0]
    assert len(whole.text) > 8
    stop = whole.text[5:8]
    found = llama.generate([request, chat("another")], Sampling(max_tokens=30, stop=("never seen", stop)))[0]
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish == "complete"
    assert found.completion_tokens < whole.completion_tokens


def test_an_end_token_completes(llama: LocalEngine) -> None:
    plain = llama.generate([chat("Judge")], Sampling(max_tokens=4))[0]
    assert plain.finish == "truncated"
    head = llama.causal_model.model
    first = int(plain_log_probs(llama, by_hand(chat("Judge")))[-1].argmax())
    ends = head.generation_config.eos_token_id
    head.generation_config.eos_token_id = [ends, first]
    try:
        ended = llama.generate([chat("Judge")], Sampling(max_tokens=4))[0]
    finally:
        head.generation_config.eos_token_id = ends
    assert (ended.text, ended.finish, ended.completion_tokens) == ("", "complete", 0)


def test_generation_ends_with_the_context(llama: LocalEngine) -> None:
    length = len(llama.codec.encode_prompt(chat("Judge")))
    for room in (1, 3):
        small = LocalEngine(llama.folder, device="cpu", max_length=length + room)
        made = small.generate([chat("Judge")], Sampling(max_tokens=50))[0]
        assert (made.status, made.finish, made.completion_tokens) == (Status.OK, "truncated", room)
    full = LocalEngine(llama.folder, device="cpu", max_length=length)
    assert full.generate([chat("Judge")], Sampling(max_tokens=50))[0].status is Status.TOO_LONG
    assert full.next_token([chat("Judge")], OPTIONS).status == [Status.OK]
