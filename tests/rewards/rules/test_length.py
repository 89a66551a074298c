"""Length, brevity, repetition and language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.rules import AnswerLanguage, Brevity, Length, Overlong, Repetition, overlong_penalty
from plaudit.types import Batch, SpecError, Status


def values(rule, responses, **columns):
    """Value or status of each response."""
    scores = rule.score(Batch([columns.pop("prompt", "p")] * len(responses), responses, **columns))
    return [v if s == Status.OK else Status(s) for v, s in zip(scores.values.tolist(), scores.status.tolist(), strict=True)]


def test_plain_length():
    assert values(Length(), ["", "ab", "ä🙂"]) == [0.0, 2.0, 2.0]
    assert values(Length("words"), ["", "a  b\nc", " x "]) == [0.0, 3.0, 1.0]
    assert values(Length(), [None, [{"role": "assistant", "content": "abc"}]]) == [Status.NOT_APPLICABLE, 3.0]


def test_limits():
    texts = ["x" * n for n in (0, 5, 10, 12, 20, 99)]
    assert values(Length(maximum=10), texts) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert values(Length(maximum=10, tolerance=10), texts) == pytest.approx([1.0, 1.0, 1.0, 0.8, 0.0, 0.0])
    assert values(Length(minimum=10, tolerance=10), texts) == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 1.0])
    assert values(Length(target=10, tolerance=10), texts) == pytest.approx([0.0, 0.5, 1.0, 0.8, 0.0, 0.0])
    for wrong in ({"target": 1, "maximum": 2}, {"minimum": 3, "maximum": 2}, {"tolerance": -1}, {"unit": "lines"}):
        with pytest.raises(SpecError):
            Length(**wrong)


@given(st.text(), st.floats(0.1, 1e4))
def test_brevity_lies_above_zero_and_halves(text, half):
    (value,) = values(Brevity(half, "characters"), [text])
    assert 0 < value <= 1
    assert value == pytest.approx(max(0.5 ** (len(text) / half), 1e-30), rel=1e-5)
    assert values(Brevity(4), ["a b c d", "a b c d e f g h"]) == pytest.approx([0.5, 0.25])


def test_tokens_of_a_tokenizer_or_of_the_batch(tmp_path):
    from tests.rewards.learned.tiny import save_tokenizer

    save_tokenizer(tmp_path)
    assert values(Length("tokens", tokenizer=tmp_path), ["abc", "é", None]) == [3.0, 2.0, Status.NOT_APPLICABLE]
    assert values(Length("tokens"), ["abc", "d"], lengths=[7, 9]) == [7.0, 9.0]
    with pytest.raises(SpecError, match="name a tokenizer"):
        values(Length("tokens"), ["abc"])
    with pytest.raises(SpecError, match="no tokenizer"):
        values(Length("tokens", tokenizer=tmp_path / "none"), ["abc"])
    assert Length("tokens", tokenizer=tmp_path).fingerprint() != Length("tokens").fingerprint()


def test_repetition():
    assert values(Repetition(2), ["a b a b", "a b c d", "a A a a a", "a b", ""]) == pytest.approx(
        [1 / 3, 0.0, 0.75, Status.ABSTAINED, Status.ABSTAINED]
    )
    assert not Repetition().higher_is_better
    with pytest.raises(SpecError):
        Repetition(0)


ENGLISH = "The weather is nice today, so we will walk to the lake after lunch."
GERMAN = "Das Wetter ist heute schön, deshalb gehen wir nach dem Essen zum See."
FRENCH = "Il fait beau aujourd'hui, nous irons donc au lac après le déjeuner."
CHINESE = "今天天气很好，所以我们午饭后去湖边散步。"


def test_language():
    assert (
        values(AnswerLanguage("de"), [ENGLISH, GERMAN, FRENCH, CHINESE, "ok", "42", ""])
        == [0.0, 1.0, 0.0, 0.0] + [Status.ABSTAINED] * 3
    )
    assert values(AnswerLanguage("zh"), [CHINESE, ENGLISH]) == [1.0, 0.0]
    assert values(AnswerLanguage("prompt"), [ENGLISH, FRENCH], prompt=FRENCH) == [0.0, 1.0]
    assert values(AnswerLanguage("prompt"), [ENGLISH], prompt="42?") == [Status.ABSTAINED]
    chat = [{"role": "system", "content": ENGLISH}, {"role": "user", "content": GERMAN}]
    assert values(AnswerLanguage(), [GERMAN, ENGLISH], prompt=chat) == [1.0, 0.0]
    with pytest.raises(SpecError, match="unknown language 'xx'"):
        AnswerLanguage("xx").check()


def test_the_probability_of_the_language_is_a_part():
    scores = AnswerLanguage("en").score(Batch(["p"] * 3, [ENGLISH, GERMAN, "ok"]))
    probability = scores.parts["probability"].tolist()
    assert probability[0] > 0.9 > 0.1 > probability[1]
    assert scores.parts["probability"][2].isnan()


def test_the_penalty_of_overlong_answers():
    assert [overlong_penalty(length, 12, 16) for length in (0, 12, 13, 14, 16, 99)] == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]
    assert [overlong_penalty(length, 12, 12) for length in (12, 13)] == [0.0, -1.0], "a step where the limits are equal"
    scores = Overlong(2, 4).score(Batch(["q"] * 3, ["a", "b", "c"], lengths=[2, 3, 9]))
    assert scores.values.tolist() == [0.0, -0.5, -1.0]
    assert Overlong(2, 4, "words").score(Batch(["q"], ["a b c"])).values.item() == -0.5
    with pytest.raises(ValueError, match="expected"):
        overlong_penalty(1, 5, 4)
    with pytest.raises(SpecError, match="expected"):
        Overlong(5, 4)
