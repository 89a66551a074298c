"""A CLIP of transformers as two towers: the embeddings are CLIP's own, and its upper layers can be tuned."""

import pytest
import torch

from plaudit import Batch
from plaudit.rewards.learned.two_tower import TwoTowerReward
from plaudit.types import EngineError

TEXTS = ["a red disc", "blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny CLIP with random weights, a tokenizer of words, and CLIP's image settings."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<pad>", "<start>", "a", "red", "blue", "disc", "<unknown>", "<end>"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("<start>", 1), ("<end>", 7)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=marks)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = {**size, "vocab_size": 8, "max_position_embeddings": 6, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 7}
    config = CLIPConfig(text_config=text, vision_config={**size, "image_size": 8, "patch_size": 4}, projection_dim=8)
    where = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(where)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>").save_pretrained(where)
    CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}).save_pretrained(where)
    return where


def test_cosines_are_those_of_the_model(folder):
    from transformers import AutoTokenizer, CLIPModel

    reward = TwoTowerReward({"clip": str(folder)}, image_blocks=1, text_blocks=1)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = reward.score(Batch(TEXTS, images)).values
    model, tokenizer = CLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    mean, deviation = reward.towers.mean, reward.towers.deviation
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    with torch.no_grad():
        output = model(**inputs, pixel_values=((images + 1) / 2 - mean) / deviation)
    expected = (output.text_embeds * output.image_embeds).sum(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_upper_layers_of_clip(folder):
    towers = TwoTowerReward({"clip": str(folder)}, image_blocks=2, text_blocks=1).towers
    trained = {name for name, parameter in towers.named_parameters() if parameter.requires_grad}
    assert any("vision_model.encoder.layers.1." in name for name in trained)
    assert not any("vision_model.encoder.layers.0." in name for name in trained)
    assert any("text_model.encoder.layers.2." in name for name in trained)
    assert not any("text_model.encoder.layers.1." in name for name in trained)
    assert any("post_layernorm" in name for name in trained)
    assert any("text_projection" in name for name in trained)
    assert not any("visual_projection" in name for name in trained)


def test_long_prompts_are_cut_and_counted(folder):
    reward = TwoTowerReward({"clip": str(folder)})
    scores = reward.score(Batch(["red " * 20, "red"], torch.zeros(2, 3, 16, 16)))
    assert scores.ok.all()
    assert reward.towers.truncated == 1


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(EngineError):
        TwoTowerReward({"clip": str(tmp_path)})
