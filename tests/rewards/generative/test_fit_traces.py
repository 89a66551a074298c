"""A judge learns from traces: what it writes is learned, what it was asked and what others wrote is not."""

import pytest
import torch

from plaudit.fitting import FitConfig
from plaudit.generators.language import LanguageGenerator
from plaudit.generators.language.engine import LiveEngine
from plaudit.generators.language.tiny import tiny_decoder
from plaudit.rewards.generative import Judge, contract_from_mapping
from plaudit.rewards.generative.fit_traces import fit_judge_on_traces
from plaudit.rewards.generative.judging_prompts import VerdictReward, judging_prompts
from plaudit.types import Batch

CONTRACT = contract_from_mapping(
    "same",
    {
        "user": "{{ prompt }}{{ response }}",
        "delimiters": {"prompt": ["<<<", ">>>"], "response": ["[[[", "]]]"]},
        "readout": {"text": {"labels": {"+": 1, "-": 0}, "strict": "[a-d]?(?P<verdict>[+-])", "mode": "strict", "max_tokens": 4}},
    },
)
ITEMS = Batch([first for first in "abcd" for _ in "abcd"], [second for _ in "abcd" for second in "abcd"])
GOLD = [float(response in "ac") for response in ITEMS.responses]


def judge_model(**settings):
    generator = tiny_decoder("abcd+-<>[]\n", layers=2, width=32, heads=2, context=32, seed=1, **settings)
    generator.codec.tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return generator


def traces_of(items=ITEMS, gold=GOLD):
    traces = judging_prompts(CONTRACT, items, gold)
    traces.responses = [f"{prompt}{'+' if right else '-'}" for prompt, right in zip(items.prompts, gold, strict=True)]
    return traces


def test_a_tiny_judge_learns_to_reason_and_decide():
    generator = judge_model()
    judge = Judge(LiveEngine(generator), CONTRACT)
    before = float(judge.score(ITEMS).ok.float().mean())
    result = fit_judge_on_traces(
        generator, traces_of(), FitConfig(learning_rate=4e-3, schedule="cosine"), batch_rows=8, epochs=40
    )
    scores = judge.score(ITEMS)
    assert before < 0.5
    assert result.losses[-1] < 0.1 * result.losses[0]
    assert scores.values.tolist() == GOLD
    assert scores.verdicts[0][0].text == "a+"
    assert VerdictReward(CONTRACT).score(generator.rollout(traces_of(), 1, how=judge.sampling, seed=0).batch).values.mean() == 1.0


def test_the_loss_is_that_of_the_answer_alone():
    generator, one = judge_model(), traces_of().select([1])
    requests = Judge(LiveEngine(generator), CONTRACT).requests(ITEMS, 1)
    encoded = generator.encode(one, seed=0)
    assert int(encoded.mask.sum()) == len("a-") + 1, "the answer's characters and the end"
    written = LiveEngine(generator).log_probs(requests, ["a-"]).tokens[0]
    assert encoded.log_probs[0, :2].tolist() == pytest.approx(written.tolist(), abs=1e-5)
    result = fit_judge_on_traces(generator, one, FitConfig(learning_rate=1e-9))
    assert result.losses[0] == pytest.approx(-float(encoded.log_probs.mean()), rel=1e-5)


def test_text_of_the_environment_is_read_and_not_learned():
    generator, one = judge_model(), traces_of().select([1])
    one.responses = ["abcd-"]
    one.extras["environment"] = [[(1, 3)]]
    encoded = generator.encode(one, seed=0)
    assert encoded.mask[0].tolist() == [True, False, False, True, True, True]
    plain = generator.encode(Batch(one.prompts, one.responses), seed=0)
    assert plain.mask.all()
    assert torch.equal(plain.log_probs, encoded.log_probs), "it is read all the same"
    result = fit_judge_on_traces(generator, one, FitConfig(learning_rate=1e-9))
    assert result.losses[0] == pytest.approx(-float(encoded.log_probs[encoded.mask].mean()), rel=1e-5)


def test_other_data_is_mixed_in():
    beside = Batch(["abab"] * 2, ["cd", "dc"])
    generator = judge_model()
    seen = []
    generator_encode = generator.encode
    generator.encode = lambda batch, *, seed: seen.append(batch) or generator_encode(batch, seed=seed)
    fit_judge_on_traces(generator, traces_of(), FitConfig(), beside=beside, beside_share=0.2)
    texts = list(seen[0].responses)
    assert len(texts) == 16 + 4
    assert texts.count("cd") == texts.count("dc") == 2
    with pytest.raises(ValueError, match="no traces"):
        fit_judge_on_traces(generator, traces_of().select([]))
    with pytest.raises(ValueError, match="beside_share"):
        fit_judge_on_traces(generator, traces_of(), beside=beside, beside_share=1.0)


@pytest.mark.model
def test_an_adapter_on_the_embedded_model_learns():
    from plaudit.engines.lora import LoRA

    generator = LanguageGenerator("smollm2", lora=LoRA(rank=4))
    items = Batch(["What is two plus two?"] * 2, ["4", "5"])
    traces = judging_prompts("reason-then-verdict", items, [1.0, 0.0], control=LiveEngine(generator).control_strings)
    traces.responses = ["Two and two is 4.\nVerdict: correct", "Two and two is 4.\nVerdict: incorrect"]
    result = fit_judge_on_traces(generator, traces, FitConfig(learning_rate=2e-3), batch_rows=2, epochs=3)
    assert result.losses[2] < result.losses[0]
