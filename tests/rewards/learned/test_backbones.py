"""A text backbone must give each row the state that it has alone, learn what it says it learns, and compute frozen rows once."""

import json

import pytest
import torch

from plaudit.engines.weights import weights_fingerprint
from plaudit.rewards.learned.backbones import TextBackbone
from plaudit.rewards.learned.base import Backbone
from plaudit.rewards.learned.features_cache import FeatureCache, chunks
from plaudit.types import Batch, EngineError, SpecError, Status, UserError
from tests.engines.tiny import NO_SYSTEM, save_tiny_model

PROMPTS = ["What is two plus two?", "What is two plus two?", "Why?", [{"role": "user", "content": "Hi"}], "Hi"]
RESPONSES = ["Four, the sum is four.", "Five.", "", "Because.", [{"role": "assistant", "content": "Hello"}]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "llama": save_tiny_model(root / "llama"),
        "gpt2": save_tiny_model(root / "gpt2", "gpt2", template=None),
        "gemma2": save_tiny_model(root / "gemma2", "gemma2", template=NO_SYSTEM),
    }


def batch():
    return Batch(PROMPTS, RESPONSES)


def alone(backbone, row):
    """[T, d] all states of one row through transformers alone, and its tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(backbone.folder).eval()
    ids = list(backbone.read(batch())[row].ids)
    with torch.no_grad():
        return model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0], ids


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("pooling", ["last", "mean", "position"])
def test_each_row_has_the_states_that_it_has_alone(folders, family, pooling):
    backbone = TextBackbone(folders[family], pooling=pooling, cache=False)
    assert isinstance(backbone, Backbone)
    found = backbone.encode(batch())
    assert found.shape == (5, backbone.width)
    for row in range(5):
        states, _ = alone(backbone, row)
        places = list(backbone.read(batch())[row].places)
        torch.testing.assert_close(found[row], states[places].mean(0), atol=1e-4, rtol=1e-4)


def texts_read(backbone, prompt, response, position=None):
    """The text up to and including the last place, and the tokens at the places as text."""
    reading = backbone.reader.read(prompt, response, position)
    decode = backbone.reader.codec.tokenizer.decode
    return decode(list(reading.ids[: reading.places[-1] + 1])), decode([reading.ids[place] for place in reading.places])


def test_where_each_pooling_reads(folders):
    last, mean, position = (TextBackbone(folders["llama"], pooling=one) for one in ("last", "mean", "position"))
    whole, _ = texts_read(last, "Why?", "Yes, right.")
    assert whole == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nYes, right.<|im_end|>\n"
    assert texts_read(mean, "Why?", "Yes, right.")[1] == "Yes, right."
    assert texts_read(position, "Why?", "Yes, right.")[0].endswith("assistant\nYes, right.")
    assert texts_read(position, "Why?", "12345", 2)[0].endswith("assistant\n12")
    assert texts_read(position, "Why?", "12345", 0)[0].endswith("assistant\n")
    assert texts_read(position, "Why?", "12345", 99)[0].endswith("assistant\n12345")
    assert texts_read(mean, "Why?", "")[0] == texts_read(last, "Why?", "")[0]
    # the response's own text decides, also where the prompt says the same
    assert len(mean.reader.read("12", "12").places) == 2


def test_positions_come_with_the_batch(folders):
    backbone = TextBackbone(folders["llama"], pooling="position", cache=False)
    prefix = backbone.encode(Batch(["Why?"] * 2, ["123456", "1234"], extras={"position": [4, None]}))
    torch.testing.assert_close(prefix[0], prefix[1], atol=1e-4, rtol=1e-4)


def test_templates(folders):
    plain = TextBackbone(folders["llama"], template="plain")
    assert texts_read(plain, "Why?", "So.")[0].endswith("Why?\n\nSo.")
    own = TextBackbone(folders["llama"], template="Q: {prompt}\nA: {response}\nGood?")
    assert texts_read(own, "Why {response}?", "So.")[0].endswith("Q: Why {response}?\nA: So.\nGood?")
    own_mean = TextBackbone(folders["llama"], template="Q: {prompt}\nA:{response}!", pooling="mean")
    assert texts_read(own_mean, "Why?", "12")[1] == "12"


def test_control_tokens_are_broken_up(folders):
    backbone = TextBackbone(folders["llama"])
    reading = backbone.reader.read("Hi<|im_end|>", "a<|im_start|>b")
    assert reading.broken == 2
    assert reading.ids.count(backbone.reader.codec.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2


def test_statuses_say_why_a_row_has_no_vector(folders):
    backbone = TextBackbone(folders["llama"], max_length=40, cache=False)
    rows = Batch(["a", "b", "c", "\ud800"], ["ok", 5, "long " * 60, "x"])
    assert backbone.status(rows).tolist() == [Status.OK, Status.NOT_APPLICABLE, Status.TOO_LONG, Status.FAILED]
    found = backbone.read_features(rows)
    assert found.status.tolist() == backbone.status(rows).tolist()
    assert bool(found.vectors[0].isfinite().all())
    assert bool(found.vectors[1:].isnan().all())


@pytest.mark.parametrize("adaptation", ["lora", "full"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_gradients_are_those_of_separate_rows(folders, adaptation, pooling):
    backbone = TextBackbone(folders["llama"], adaptation=adaptation, pooling=pooling, dtype="float64", seed=3)
    weights = [weight for module in backbone.modules().values() for weight in module.parameters()]
    if adaptation == "lora":  # B is 0 at the start: A would have no gradient
        for weight in weights:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(backbone.width, generator=torch.Generator().manual_seed(0))
    rows = Batch(PROMPTS[:3], RESPONSES[:3])

    def gradients(batches):
        total = sum((backbone.encode(one) @ direction).square().sum() for one in batches)
        return torch.autograd.grad(total, weights, allow_unused=True)

    together, apart = gradients([rows]), gradients([rows.select([row]) for row in range(3)])
    assert any(one is not None and float(one.abs().max()) > 1e-6 for one in together)
    for one, other in zip(together, apart, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_is_trained(folders):
    frozen, lora, full = (TextBackbone(folders["llama"], adaptation=one) for one in ("frozen", "lora", "full"))
    assert frozen.modules() == {}
    assert (frozen.trainable, lora.trainable, full.trainable) == (False, True, True)
    assert not frozen.encode(batch()).requires_grad
    assert lora.encode(batch()).requires_grad
    with torch.no_grad():
        assert not lora.encode(batch()).requires_grad
    adapted = {name for name, _ in lora.modules()["adapter"].named_parameters()}
    assert adapted
    assert all("lora_" in name for name in adapted)
    assert all(weight.requires_grad for weight in full.modules()["trunk"].parameters())
    model = lora.causal_model.model
    trained = sum(weight.requires_grad for weight in model.parameters())
    assert trained == len(adapted)
    # an adapter starts as nothing: the vectors are those of the model
    torch.testing.assert_close(lora.encode(batch()).detach(), frozen.encode(batch()), atol=1e-4, rtol=1e-4)
    same, other = (TextBackbone(folders["llama"], adaptation="lora", seed=seed) for seed in (0, 1))
    first = [next(iter(one.modules()["adapter"].parameters())) for one in (lora, same, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_fewer_layers(folders):
    from transformers import AutoModelForCausalLM

    backbone = TextBackbone(folders["llama"], layers=1, cache=False)
    model = AutoModelForCausalLM.from_pretrained(folders["llama"]).eval()
    ids = torch.tensor([backbone.read(batch())[0].ids])
    with torch.no_grad():
        inner = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
        wanted = model.model.norm(inner)[0, -1]
    torch.testing.assert_close(backbone.encode(batch())[0], wanted, atol=1e-4, rtol=1e-4)
    assert TextBackbone(folders["gpt2"], layers=1).encode(batch()).isfinite().all()
    with pytest.raises(SpecError, match="the model has 2"):
        TextBackbone(folders["llama"], layers=3, cache=False).encode(batch())


def test_frozen_rows_are_computed_once(folders, tmp_path):
    first = TextBackbone(folders["llama"], cache=tmp_path)
    seen = []
    first.progress = lambda done, total: seen.append((done, total))
    found = first.encode(batch())
    assert seen[-1] == (5, 5)
    again = TextBackbone(folders["llama"], cache=tmp_path)
    assert torch.equal(again.encode(batch()), found)
    assert "causal_model" not in again.__dict__  # no model was loaded
    more = again.encode(Batch(["new"], ["row"]))
    assert again.causal_model.computed > 0
    assert torch.equal(TextBackbone(folders["llama"], cache=tmp_path).encode(Batch(["new"], ["row"])), more)
    # another way of reading is another cache
    other = TextBackbone(folders["llama"], cache=tmp_path, pooling="mean")
    assert not torch.equal(other.encode(batch()), found)
    assert torch.equal(TextBackbone(folders["llama"], cache=tmp_path).encode(batch()), found)


def test_an_interrupted_computation_goes_on(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("plaudit.rewards.learned.backbones.CHUNK_TOKENS", 20)

    def stop(done, _):
        if done >= 2:
            raise KeyboardInterrupt

    first = TextBackbone(folders["llama"], cache=tmp_path)
    first.progress = stop
    with pytest.raises(KeyboardInterrupt):
        first.encode(batch())
    second = TextBackbone(folders["llama"], cache=tmp_path)
    kept = len(second.features_cache)
    assert 0 < kept < 5
    seen = []
    second.progress = lambda done, total: seen.append((done, total))
    found = second.encode(batch())
    assert seen[0][0] > kept
    assert seen[-1] == (5, 5)
    torch.testing.assert_close(found, TextBackbone(folders["llama"], cache=False).encode(batch()), atol=1e-4, rtol=1e-4)


def test_a_row_that_the_model_fails_on_costs_only_itself_and_is_not_kept(folders, tmp_path, monkeypatch):
    backbone = TextBackbone(folders["llama"], cache=tmp_path)
    bad = backbone.read(batch())[1].ids
    whole = backbone.causal_model.states_at

    def states_at(rows, places, pad):
        if bad in [tuple(row) for row in rows]:
            raise RuntimeError("out of memory")
        return whole(rows, places, pad)

    monkeypatch.setattr(backbone.causal_model, "states_at", states_at)
    found = backbone.read_features(batch())
    assert found.status.tolist() == [Status.OK, Status.NOT_A_NUMBER, Status.OK, Status.OK, Status.OK]
    again = TextBackbone(folders["llama"], cache=tmp_path)
    assert len(again.features_cache) == 4
    assert bool(again.encode(batch()).isfinite().all())


def test_damaged_chunks_are_computed_again(tmp_path, caplog):
    cache = FeatureCache(tmp_path)
    cache.put({"a": torch.arange(3.0), "b": torch.ones(3)})
    cache.put({})
    (tmp_path / "cut.safetensors").write_bytes(next(tmp_path.glob("*.safetensors")).read_bytes()[:20])
    again = FeatureCache(tmp_path)
    assert len(again) == 2
    assert "cut.safetensors" in caplog.text
    assert torch.equal(again.get(["b", "c", "a", "a"])["a"], torch.arange(3.0))
    assert set(again.get(["c"])) == set()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be kept"):
        FeatureCache(tmp_path / "file" / "below").put({"a": torch.ones(1)})


def test_chunks_cover_all_rows_in_order():
    found = chunks([5, 5, 30, 1, 1], 10)
    assert [row for chunk in found for row in chunk] == [0, 1, 2, 3, 4]
    assert found == [[0, 1], [2], [3, 4]]
    assert chunks([], 10) == []


def test_settings_rebuild_it_and_other_weights_are_refused(folders, tmp_path):
    backbone = TextBackbone(folders["llama"], adaptation="lora", rank=4, pooling="mean", layers=1)
    settings = json.loads(json.dumps(backbone.settings))
    assert settings.pop("kind") == "text"
    assert settings["weights"] == weights_fingerprint(folders["llama"])
    again = TextBackbone(**settings)
    assert again.settings == backbone.settings
    assert again.fingerprint() == backbone.fingerprint()
    assert again.fingerprint() != TextBackbone(folders["llama"]).fingerprint()
    other = save_tiny_model(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match="other weights"):
        TextBackbone(**{**settings, "model": str(other)}).encode(batch())


def test_width_needs_no_weights(folders):
    backbone = TextBackbone(folders["gpt2"])
    assert backbone.width == 32
    assert "causal_model" not in backbone.__dict__


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"adaptation": "half"}, "adaptation must be frozen, lora, full"),
        ({"pooling": "max"}, "pooling must be last, mean, position"),
        ({"template": "no places"}, "template must be"),
        ({"template": "{response} {prompt}"}, "before {response}"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"precision": "int8"}, "precision must be"),
        ({"precision": "bfloat16", "adaptation": "lora"}, "has no gradients"),
    ],
)
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(SpecError, match=says):
        TextBackbone("smollm2", **settings)


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="does not exist"):
        TextBackbone(tmp_path / "nowhere").status(batch())


def test_reduced_precision_is_near_and_kept_apart(folders, tmp_path):
    from plaudit.engines.precision import why_no_bfloat16

    if why_no_bfloat16(torch.device("cpu"), torch.float32) is not None:
        pytest.skip("this CPU has no fast bfloat16")
    exact, rough = (TextBackbone(folders["llama"], cache=tmp_path, precision=one) for one in ("full", "bfloat16"))
    first, second = exact.encode(batch()), rough.encode(batch())
    assert not torch.equal(first, second)
    assert float(torch.nn.functional.cosine_similarity(first, second).min()) > 0.97
    assert exact.features_cache.folder != rough.features_cache.folder
