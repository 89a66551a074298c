"""What every engine promises, on every engine that can be opened here."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from plaudit.engines.control import neutralise
from plaudit.types import Budget, BudgetExceeded, Request, Sampling, Status
from tests.engines.conformance import ENGINES, Candidate

HEAVY = {"embedded": [pytest.mark.model, pytest.mark.slow]}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=HEAVY.get(name, ())) for name in ENGINES])
def candidate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Candidate]:
    with ENGINES[request.param](tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


def greedy(candidate: Candidate) -> Sampling:
    return Sampling(max_tokens=candidate.tokens)


def asked(candidate: Candidate) -> list[Request]:
    return [candidate.request(text) for text in candidate.texts]


def needs(candidate: Candidate, ability: str) -> None:
    if not getattr(candidate, ability):
        pytest.skip(f"this engine declares that it is not {ability}")


def test_greedy_text_is_deterministic_and_its_own(candidate: Candidate) -> None:
    first = candidate.engine.generate(asked(candidate), greedy(candidate))
    assert [one.status for one in first] == [Status.OK] * 3
    assert all(one.detail == "" for one in first)
    again = candidate.engine.generate(list(reversed(asked(candidate))), greedy(candidate))
    assert [one.text for one in reversed(again)] == [one.text for one in first]
    assert all(one.finish in ("complete", "truncated") for one in first)


def test_the_seed_decides_a_sample(candidate: Candidate) -> None:
    needs(candidate, "seeded")
    request = asked(candidate)[:1]
    texts = [
        candidate.engine.generate(request, Sampling(max_tokens=12, temperature=1.0, seed=seed))[0].text
        for seed in (1, 1, 2, 3, 4)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts[1:])) > 1


def test_stops_are_cut_off_and_complete_a_text(candidate: Candidate) -> None:
    needs(candidate, "seeded")  # a server that always answers the same honours no stop
    whole = candidate.engine.generate(asked(candidate)[:1], Sampling(max_tokens=20))[0]
    places = [place for place in range(3, len(whole.text) - 1) if whole.text[place : place + 2].isascii()]
    stop = whole.text[places[0] : places[0] + 2]
    found = candidate.engine.generate(asked(candidate)[:1], Sampling(max_tokens=20, stop=("never seen", stop)))[0]
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish == "complete"
    assert found.completion_tokens <= whole.completion_tokens


def test_a_text_that_reaches_its_limit_is_truncated(candidate: Candidate) -> None:
    needs(candidate, "seeded")
    made = candidate.engine.generate(asked(candidate)[:1], Sampling(max_tokens=1))[0]
    assert (made.finish, made.completion_tokens) == ("truncated", 1)


def test_what_is_told_is_what_the_budget_counted(candidate: Candidate) -> None:
    budget = Budget()
    made = candidate.engine.generate(asked(candidate), greedy(candidate), budget=budget)
    assert all(one.prompt_tokens > 0 for one in made)
    assert budget.spent["prompt_tokens"] == sum(one.prompt_tokens for one in made)
    assert budget.spent["completion_tokens"] == sum(one.completion_tokens for one in made) > 0
    assert budget.spent["network_calls"] > 0
    with pytest.raises(BudgetExceeded, match="completion_tokens"):
        candidate.engine.generate(asked(candidate), greedy(candidate), budget=Budget({"completion_tokens": 1}))


def test_options_are_probabilities(candidate: Candidate) -> None:
    found = candidate.engine.next_token(asked(candidate), candidate.options)
    assert found.status == [Status.OK] * 3
    assert found.log_probs.shape == (3, 2)
    assert bool((found.log_probs <= 0).all())
    if candidate.exact:
        assert bool((found.log_probs.exp().sum(dim=1) <= 1 + 1e-6).all())
    else:
        assert found.floor is not None, "an engine that shows only its top tokens must say below which probability"
        assert bool((found.log_probs >= found.floor[:, None] - 1e-6).all())


def test_spellings_are_summed(candidate: Candidate) -> None:
    request = asked(candidate)[:1]
    first, second = candidate.options[0][:2]
    apart = candidate.engine.next_token(request, [[first], [second]])
    together = candidate.engine.next_token(request, [[first, second]])
    shown = [math.exp(value) for value in apart.log_probs[0].tolist() if apart.floor is None or value > apart.floor[0].item()]
    if shown:
        assert together.log_probs.exp().item() == pytest.approx(min(1.0, sum(shown)), rel=max(candidate.tolerance, 1e-4))


def test_given_text_is_the_chain_of_next_tokens(candidate: Candidate) -> None:
    needs(candidate, "exact")
    text = candidate.options[0][0] + candidate.options[1][0]
    for request in (*asked(candidate), Request("Judge the response", " Is")):
        total = candidate.engine.log_probs([request], [text])
        assert total.status == [Status.OK]
        first = candidate.engine.next_token([request], [[candidate.options[0][0]]]).log_probs.item()
        after = Request(request.messages, request.prefix + candidate.options[0][0])
        second = candidate.engine.next_token([after], [[candidate.options[1][0]]]).log_probs.item()
        assert total.total.item() == pytest.approx(first + second, abs=5 * candidate.tolerance)
        assert total.tokens[0].sum().item() == pytest.approx(total.total.item(), abs=1e-4)


def test_numbers_do_not_depend_on_the_company(candidate: Candidate) -> None:
    rows = asked(candidate)
    together = candidate.engine.next_token(rows, candidate.options).log_probs
    alone = torch.cat([candidate.engine.next_token([row], candidate.options).log_probs for row in reversed(rows)]).flip(0)
    assert torch.allclose(together, alone, atol=candidate.tolerance)


def test_nothing_in_nothing_out(candidate: Candidate) -> None:
    assert candidate.engine.generate([], greedy(candidate)) == []
    assert tuple(candidate.engine.next_token([], candidate.options).log_probs.shape) == (0, 2)
    assert candidate.engine.log_probs([], []).total.shape == (0,)


def test_an_empty_continuation_is_certain_or_refused(candidate: Candidate) -> None:
    found = candidate.engine.log_probs(asked(candidate)[:1], [""])
    if candidate.exact:
        assert (found.status, found.total.tolist(), found.tokens[0].numel()) == ([Status.OK], [0.0], 0)
    else:
        assert found.status == [Status.FAILED]
        assert found.total.isnan().all()
        assert found.detail[0]


def test_any_text_is_read_and_scored(candidate: Candidate) -> None:
    """Characters of several tokens too: none of their tokens is a whole character."""
    request = candidate.request(candidate.unicode)
    assert candidate.engine.generate([request], greedy(candidate))[0].status is Status.OK
    assert candidate.engine.next_token([request], candidate.options).status == [Status.OK]
    if candidate.exact:
        found = candidate.engine.log_probs([request], [candidate.unicode])
        assert found.status == [Status.OK]
        assert found.total.item() < 0
        assert found.tokens[0].numel() >= len(candidate.unicode)


def test_what_is_too_long_says_so_and_the_others_go_on(candidate: Candidate) -> None:
    needs(candidate, "seeded")
    rows = [asked(candidate)[0], candidate.request("Is it? " * 200), asked(candidate)[1]]
    made = candidate.engine.generate(rows, greedy(candidate))
    assert [one.status for one in made] == [Status.OK, Status.TOO_LONG, Status.OK]
    assert made[1].text == ""
    assert "context" in made[1].detail
    found = candidate.engine.next_token(rows, candidate.options)
    assert found.status == [Status.OK, Status.TOO_LONG, Status.OK]
    assert found.log_probs.isnan().all(dim=1).tolist() == [False, True, False]
    if candidate.exact:
        scored = candidate.engine.log_probs(rows[:2], [candidate.options[0][0], candidate.options[0][0]])
        assert scored.status == [Status.OK, Status.TOO_LONG]
        assert scored.total.isnan().tolist() == [False, True]


def test_control_strings_are_known_and_made_harmless(candidate: Candidate) -> None:
    needs(candidate, "renders")
    strings = candidate.engine.control_strings
    assert strings
    for string in strings:
        broken, count = neutralise(f"fine {string} {string}", strings)
        assert count == 2
        assert string not in candidate.engine.render(candidate.request(broken)).partition(broken)[1]


def test_the_model_sees_what_render_shows(candidate: Candidate) -> None:
    needs(candidate, "renders")
    request = candidate.request(candidate.texts[0], candidate.options[0][0])
    shown = candidate.engine.render(request)
    assert candidate.texts[0] in shown
    assert shown.endswith(candidate.options[0][0])
    ours = candidate.engine.next_token([request], candidate.options).log_probs
    as_text = candidate.engine.next_token([Request(shown)], candidate.options).log_probs
    begins = getattr(getattr(candidate.engine, "codec", None), "begin", ())
    if not begins:  # plain text would get a beginning-of-text token of its own
        assert torch.allclose(ours, as_text, atol=candidate.tolerance)


def test_the_version_changes_with_what_changes_numbers(candidate: Candidate) -> None:
    assert candidate.again().version == candidate.engine.version
    assert candidate.other().version != candidate.engine.version
    assert candidate.engine.name


def test_constructing_loads_nothing(candidate: Candidate) -> None:
    fresh = candidate.again()
    assert fresh.version
    assert "_ready" not in fresh.__dict__
    fresh.check()
    assert "_ready" not in fresh.__dict__


def test_what_it_cannot_do_is_refused_in_a_sentence(candidate: Candidate) -> None:
    request = asked(candidate)[:1]
    if not candidate.hidden:
        with pytest.raises(NotImplementedError, match="gives no hidden states"):
            candidate.engine.hidden(request)
    else:
        assert candidate.engine.hidden(request).shape[0] == 1
    if candidate.grad:
        assert candidate.engine.next_token(request, candidate.options, grad=True).log_probs.requires_grad
        assert not candidate.engine.next_token(request, candidate.options).log_probs.requires_grad
    elif not candidate.hidden:
        with pytest.raises(NotImplementedError, match="no gradients"):
            candidate.engine.next_token(request, candidate.options, grad=True)
        with pytest.raises(NotImplementedError, match="no gradients"):
            candidate.engine.log_probs(request, ["x"], grad=True)
    if not candidate.exact:
        scored = candidate.engine.log_probs(request, ["x"])
        assert scored.status == [Status.FAILED]
        assert "use next_token or a local engine" in scored.detail[0]
    if not candidate.renders:
        with pytest.raises(NotImplementedError, match="does not show"):
            candidate.engine.render(request[0])
