"""llama.cpp against the local engine on the same weights, and what only llama.cpp can get wrong."""

from __future__ import annotations

import importlib.util
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from plaudit.engines import llama_cpp, llama_cpp_server
from plaudit.engines.catalogue import EngineOptions, open_engine
from plaudit.engines.http_client import RequestProblem
from plaudit.engines.llama_cpp import LEAST, LlamaCppEngine
from plaudit.engines.local import LocalEngine
from plaudit.types import Budget, EngineError, Generation, Request, Sampling, SpecError, Status, UserError
from tests.engines.local_requests import chat, requests
from tests.engines.tiny import save_tiny_gguf, save_tiny_model

OPTIONS = [[" Yes", "Yes", "yes"], [" No", "No", "no"]]

if importlib.util.find_spec("xllamacpp") is None:
    pytest.skip("xllamacpp is not installed: pip install 'plaudit[llama-cpp]'", allow_module_level=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gguf")
    return save_tiny_gguf(save_tiny_model(root / "tiny"), root / "tiny.gguf")


@pytest.fixture(scope="module")
def local(path: Path) -> LocalEngine:
    return LocalEngine(path.parent / "tiny", device="cpu")


@pytest.fixture(scope="module")
def engine(path: Path) -> Iterator[LlamaCppEngine]:
    opened = LlamaCppEngine(path, threads=1)
    yield opened
    opened.close()


def test_the_same_weights_give_the_same_numbers(engine: LlamaCppEngine, local: LocalEngine) -> None:
    """The file holds float32, so nothing is rounded on the way into a product."""
    for request in requests():
        assert engine.render(request) == local.render(request)
        assert engine.codec.encode_prompt(request) == local.codec.encode_prompt(request)
    assert engine.control_strings == local.control_strings
    ours, theirs = engine.next_token(requests(), OPTIONS), local.next_token(requests(), OPTIONS)
    assert torch.allclose(ours.log_probs, theirs.log_probs, atol=1e-4)
    texts = [" Yes, right.", "No", "\n\nThe sum is 10.", "é日", " ", "A B tie", "x" * 20, "yes\n", "no<|im_end|>", ""]
    scored, expected = engine.log_probs(requests(), texts), local.log_probs(requests(), texts)
    assert scored.status == expected.status == [Status.OK] * 10
    for mine, other in zip(scored.tokens, expected.tokens, strict=True):
        assert torch.allclose(mine, other, atol=1e-4)
    how = Sampling(max_tokens=10)
    assert told(engine.generate(requests(), how)) == told(local.generate(requests(), how))


def told(made: list[Generation]) -> list[tuple[object, ...]]:
    return [(one.text, one.finish, one.status, one.prompt_tokens, one.completion_tokens) for one in made]


def test_samples_follow_the_model(engine: LlamaCppEngine, local: LocalEngine) -> None:
    """400 first tokens at temperature 1.5 are as frequent as the local engine's probabilities say."""
    request = chat("Judge")
    made = [one.text for one in engine.generate([request] * 400, Sampling(max_tokens=1, temperature=1.5, seed=1))]
    logits = local.causal_model.model(torch.tensor([local.codec.encode_prompt(request)])).logits[0, -1]
    share: dict[str, float] = {}
    for token, probability in enumerate(torch.softmax(logits / 1.5, dim=-1).tolist()):
        text = local.codec.decode([token])
        share[text] = share.get(text, 0.0) + probability
    whole = {text: probability for text, probability in share.items() if text and "\ufffd" not in text}
    for text, expected in sorted(whole.items(), key=lambda item: -item[1])[:5]:
        assert made.count(text) / 400 == pytest.approx(expected, abs=5 * (expected * (1 - expected) / 400) ** 0.5)


def test_an_option_outside_of_the_likeliest_has_its_own_log_probability(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*requests(3), chat("several tokens")]
    for options in ([*OPTIONS, ["10"], ["1"]], [*OPTIONS, ["é"]]):  # "é" begins with a token that is no whole character
        monkeypatch.undo()
        among_all, budget = engine.next_token(rows, options), Budget()
        assert bool((among_all.log_probs > LEAST).all())
        monkeypatch.setattr(llama_cpp, "SHOWN", 1)
        forced = engine.next_token(rows, options, budget=budget)
        assert budget.spent["network_calls"] > 3 * len(rows)
        assert torch.allclose(forced.log_probs, among_all.log_probs, atol=1e-6)


def test_what_was_computed_before_changes_no_bit(engine: LlamaCppEngine, path: Path) -> None:
    fresh = LlamaCppEngine(path, threads=1)
    first = fresh.next_token(requests(4), OPTIONS).log_probs
    fresh.close()
    engine.generate(requests(), Sampling(max_tokens=7, temperature=1.0, seed=9))
    budget = Budget()
    assert torch.equal(engine.next_token(requests(4), OPTIONS, budget=budget).log_probs, first)
    assert torch.equal(engine.next_token(requests(4)[::-1], OPTIONS).log_probs.flip(0), first)
    assert budget.spent["computed_tokens"] < budget.spent["prompt_tokens"], "shared beginnings are computed once"


def test_several_slots_answer_the_same(engine: LlamaCppEngine, path: Path) -> None:
    several = LlamaCppEngine(path, threads=1, slots=3)
    try:
        ours, theirs = several.next_token(requests(), OPTIONS), engine.next_token(requests(), OPTIONS)
        assert torch.allclose(ours.log_probs, theirs.log_probs, atol=1e-4)
        assert told(several.generate(requests(), Sampling(max_tokens=6))) == told(
            engine.generate(requests(), Sampling(max_tokens=6))
        )
        assert several.version != engine.version
    finally:
        several.close()


def test_the_context_is_a_limit_and_is_never_cut(path: Path, engine: LlamaCppEngine) -> None:
    length = len(engine.codec.encode_prompt(chat("Judge")))
    small = LlamaCppEngine(path, threads=1, context=length + 2)
    try:
        made = small.generate([chat("Judge")], Sampling(max_tokens=50))[0]
        assert (made.status, made.finish, made.completion_tokens) == (Status.OK, "truncated", 2)
        assert small.next_token([chat("Judge it at length")], OPTIONS).status == [Status.TOO_LONG]
        scored = small.log_probs([chat("Judge")], ["Yes Yes Yes Yes Yes"])
        assert scored.status == [Status.TOO_LONG]
        assert f"the model's context is {length + 2}" in scored.detail[0]
    finally:
        small.close()


def test_no_tokens_asked_for_are_none_made(engine: LlamaCppEngine) -> None:
    made = engine.generate([chat("Judge")], Sampling(max_tokens=0))[0]
    assert (made.text, made.finish, made.status, made.completion_tokens) == ("", "truncated", Status.OK, 0)


def test_text_that_is_not_unicode_fails_alone(engine: LlamaCppEngine) -> None:
    found = engine.next_token([chat("good"), chat("bad \ud800"), Request(""), Request("bad \ud800")], OPTIONS)
    assert found.status == [Status.OK, Status.FAILED, Status.FAILED, Status.FAILED]
    assert "empty" in found.detail[2]


def test_nobody_else_may_ask_the_server(engine: LlamaCppEngine) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(engine.server.client.base_url + "/props", timeout=10)
    assert engine.server.client.base_url.startswith("http://127.0.0.1:")


def test_it_opens_again_after_it_was_closed(engine: LlamaCppEngine) -> None:
    before = engine.next_token(requests(2), OPTIONS).log_probs
    engine.close()
    assert torch.equal(engine.next_token(requests(2), OPTIONS).log_probs, before)


def test_unusable_files_are_refused(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, cut = tmp_path / "other.gguf", tmp_path / "cut.gguf"
    other.write_bytes(b"no GGUF at all")
    cut.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(EngineError, match="does not exist"):
        LlamaCppEngine(tmp_path / "none.gguf").check()
    with pytest.raises(EngineError, match="is not a GGUF file"):
        LlamaCppEngine(other).check()
    with pytest.raises(EngineError, match="cut.gguf"):
        LlamaCppEngine(cut, threads=1).next_token([chat("x")], OPTIONS)
    with pytest.raises(ValueError, match="slots must be at least 1"):
        LlamaCppEngine(path, slots=0)
    monkeypatch.setattr(llama_cpp_server, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(UserError, match=r"pip install 'plaudit\[llama-cpp\]'"):
        LlamaCppEngine(path).check()


def test_names_and_options(path: Path, tmp_path: Path) -> None:
    opened = open_engine(f"llama-cpp:{path}", EngineOptions(threads=1, context=99))
    assert isinstance(opened, LlamaCppEngine)
    assert (opened.path, opened.threads, opened.max_length, opened.name) == (path, 1, 99, "llama-cpp:tiny.gguf")
    for spec, said in ((f"llama-cpp:{tmp_path}/none.gguf", "names no file"), (str(path), f"expected llama-cpp:{path}")):
        with pytest.raises(SpecError, match=said):
            open_engine(spec)


def place(token: int, value: float | None) -> dict[str, object]:
    told_one = {"id": token, "logprob": value}
    return {"completion_probabilities": [{**told_one, "top_logprobs": [told_one]}]}


def test_answers_are_read_or_refused() -> None:
    lowest = -3.4028234663852886e38
    assert llama_cpp.read_forced(place(7, -0.5), 7) == -0.5
    assert llama_cpp.read_forced({"completion_probabilities": []}, 7) is None
    assert llama_cpp.read_forced(place(7, lowest), 7) == LEAST == pytest.approx(math.log(2**-149))
    assert llama_cpp.read_shown(place(7, 1e-9)) == {7: 0.0}
    for answer, said in ((place(8, -0.5), "token 8 came"), (place(7, None), "NaN"), (place(7, math.nan), "NaN")):
        with pytest.raises(RequestProblem, match=said):
            llama_cpp.read_forced(answer, 7)
    with pytest.raises(RequestProblem, match="no log-probabilities"):
        llama_cpp.read_shown({})
    with pytest.raises(RequestProblem, match="'none'"):
        llama_cpp.read_generation({"stop_type": "none", "tokens_predicted": 1, "content": ""}, 3)
