"""Records: labels are right by construction, unseen templates stay unseen, and a call reads as its contract says."""

import pytest

from plaudit.engines.tiny import word_tokenizer
from plaudit.rewards.generative.formats.nuggets import LABELS, obeys_format, parse_labels
from plaudit.types import UserError
from plaudit.worlds.nugget_records import ALIASES, FORMATS, NAMES, RARE, SEEN, TEMPLATES, RecordWorld

WORLD = RecordWorld()


def true_label(nugget: str, passage: str) -> str:
    """The slow obvious way: find the sentence of the name, and compare word by word."""
    name, deed, _, thing, time = nugget.split()
    for sentence in passage.split(".")[:-1]:
        words = sentence.split()
        if name in words:
            if thing not in words or deed not in words:
                return LABELS[2]
            return LABELS[0] if time in words and words[0] != "perhaps" else LABELS[1]
    return LABELS[2]


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_are_what_the_passage_says(split):
    calls = WORLD.calls(split, 300, 0)
    for passage, nuggets, gold in zip(calls.responses, calls.extras["nuggets"], calls.extras["gold"], strict=True):
        assert [true_label(nugget, passage) for nugget in nuggets] == gold
    counted = [label for gold in calls.extras["gold"] for label in gold]
    assert all(counted.count(label) > 0.2 * len(counted) for label in LABELS)
    assert {len(gold) for gold in calls.extras["gold"]} == {1, 2, 3, 4}


def test_two_templates_and_the_rare_names_are_for_the_test_alone():
    used = [number for row in WORLD.calls("train", 300, 0).extras["templates"] for number in row if number is not None]
    assert set(used) == set(range(SEEN))
    tested = [number for row in WORLD.calls("test", 300, 0).extras["templates"] for number in row if number is not None]
    assert set(tested) == set(range(len(TEMPLATES)))
    train, test = WORLD.short_answers("train", 300, 0), WORLD.short_answers("test", 300, 0)
    assert not set(train.references) & set(RARE)
    assert 0.2 < sum(name in RARE for name in test.references) / 300 < 0.5
    assert len(ALIASES) == len(NAMES)


def test_short_answers_are_right_by_name_or_by_the_other_name():
    batch = WORLD.short_answers("test", 300, 1)
    for said, name, right in zip(batch.responses, batch.references, batch.extras["right"], strict=True):
        word = said.strip()
        means = NAMES[ALIASES.index(word)] if word in ALIASES else word
        assert (means == name) == right
    exact = sum(said.strip() == name for said, name in zip(batch.responses, batch.references, strict=True))
    assert 0.4 < exact / sum(batch.extras["right"]) < 0.8


def test_demonstrations_are_read_as_their_gold_and_earn_the_whole_reward():
    batch = WORLD.demonstrations(200, 0)
    for response, gold, name in zip(batch.responses, batch.references, batch.extras["format"], strict=True):
        assert parse_labels(response, len(gold), strict=True) == gold
        assert obeys_format(response, name)
    assert WORLD.truth.score(batch).values.tolist() == pytest.approx([1.0] * 200)
    assert set(batch.extras["format"]) == set(FORMATS)
    assert WORLD.demonstrations(20, 0).prompts == WORLD.demonstrations(20, 0).prompts
    assert WORLD.demonstrations(20, 1).prompts != WORLD.demonstrations(20, 0).prompts


def test_every_text_is_read_and_written_without_a_loss():
    generator = WORLD.untrained(0)
    tokenizer, batch = generator.codec.tokenizer, WORLD.demonstrations(100, 0)
    tests = [WORLD.asked(WORLD.calls("test", 50, 0)), WORLD.asked(WORLD.short_answers("test", 50, 0))]
    texts = [*batch.prompts, *batch.responses, *(prompt for part in tests for prompt in part.prompts)]
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids
        assert generator.codec.decode(ids) == text
    longest = max(len(tokenizer.encode(text)) for text in texts)
    assert longest + WORLD.sampling.max_tokens <= WORLD.decoder.context
    assert max(len(tokenizer.encode(text)) for text in batch.responses) < WORLD.sampling.max_tokens


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="train and test"):
        WORLD.calls("validation", 1, 0)
    with pytest.raises(UserError, match="1 to 5 facts"):
        RecordWorld(most=0)
    with pytest.raises(ValueError, match="given twice"):
        word_tokenizer(["a", "a"])
