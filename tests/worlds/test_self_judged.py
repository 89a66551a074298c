import pytest
import torch

from plaudit.types import Request, UserError
from plaudit.worlds.base import Decoder, Level, in_split
from plaudit.worlds.self_judged import SelfJudgedSorting


def test_questions_and_answers():
    world = SelfJudgedSorting((2, 5))
    train, test = world.prompts("train", 200, 0), world.prompts("test", 200, 0)
    assert train.prompts == world.prompts("train", 200, 0).prompts
    assert not set(train.prompts) & set(test.prompts)
    assert all(in_split(prompt[:-1], "test") for prompt in test.prompts)
    assert {len(prompt) - 1 for prompt in train.prompts} == {2, 3, 4, 5}
    for prompt, answer in zip(test.prompts, test.references, strict=True):
        assert list(answer) == sorted(prompt[:-1])
    demonstrations = world.demonstrations(50, 1)
    assert world.truth.score(demonstrations).values.tolist() == [1.0] * 50
    demonstrations.responses = [answer[1:] for answer in demonstrations.responses]
    assert world.truth.score(demonstrations).values.tolist() == [0.0] * 50
    with pytest.raises(UserError):
        SelfJudgedSorting((3, 2))


def test_the_start_model_writes_without_a_chat_and_is_asked_in_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path))
    monkeypatch.setattr(SelfJudgedSorting, "levels", {"half": Level(demonstrations=64, epochs=1)})
    monkeypatch.setattr(SelfJudgedSorting, "decoder", Decoder(1, 16, 2, 48))
    world = SelfJudgedSorting()
    generator = world.base("half", 0)
    tokenizer = generator.codec.tokenizer
    assert tokenizer.convert_ids_to_tokens(generator.encode_prompt("31=")) == ["<begin>", "3", "1", "="]
    turns = [{"role": role, "content": text} for role, text in (("user", "31="), ("assistant", "13"), ("user", "?"))]
    assert tokenizer.convert_ids_to_tokens(generator.codec.encode_prompt(Request(tuple(turns)))) == ["<begin>", *"31=13?"]
    assert torch.equal(world.base("half", 0).causal_model.head.weight, generator.causal_model.head.weight), (
        "kept, and loaded again"
    )
