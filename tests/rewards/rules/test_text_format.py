"""Rules of form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.engines.encoding import Codec
from plaudit.rewards.rules import ExactMatch, JsonSchemaFormat, RegexFormat, TagFormat, ThinkFormat
from plaudit.rewards.rules.rendered import forced_tail
from plaudit.types import Batch, SpecError, Status


def one(rule, response, reference=None, **columns):
    """The value of one response, or its status."""
    references = None if reference is None else [reference]
    extras = {name: [value] for name, value in columns.items()}
    scores = rule.score(Batch(["p"], [response], references=references, extras=extras))
    return float(scores.values) if scores.ok.all() else Status(int(scores.status))


@pytest.mark.parametrize(
    ("options", "response", "reference", "value"),
    [
        ({}, " Paris\n", "paris", 1.0),
        ({}, "Paris.", "paris", 0.0),
        ({"punctuation": False}, "Paris.", "paris", 1.0),
        ({"case": True}, "Paris", "paris", 0.0),
        ({}, "New   York", "new york", 1.0),
        ({"space": True}, "New   York", "new york", 0.0),
        ({}, "ﬁne", "fine", 1.0),
        ({}, "Straße", "STRASSE", 1.0),
        ({}, "b", ["a", "b"], 1.0),
        ({}, "7", 7, 1.0),
        ({}, "", "", 1.0),
        ({}, "a", [], Status.MISSING_REFERENCE),
        ({}, "a", None, Status.MISSING_REFERENCE),
        ({"mode": "contains"}, "It is Paris, I think", "paris", 1.0),
        ({"mode": "contains"}, "comparison", "paris", 0.0),
        ({"mode": "contains"}, "costs c++ now", "c++", 1.0),
        ({"mode": "contains"}, "anything", "", Status.MISSING_REFERENCE),
    ],
)
def test_exact_match(options, response, reference, value):
    assert one(ExactMatch(**options), response, reference) == value


def test_regex():
    assert one(RegexFormat(r"\d+"), " 42\n") == 1.0
    assert one(RegexFormat(r"\d+"), "42 apples") == 0.0
    assert one(RegexFormat(r"\d+", mode="search"), "42 apples") == 1.0
    assert one(RegexFormat("a.b"), "a\nb") == 1.0
    assert one(RegexFormat("a.b", flags=""), "a\nb") == 0.0
    assert one(RegexFormat("YES", flags="i"), "yes") == 1.0
    with pytest.raises(SpecError, match="not a regular expression"):
        RegexFormat("(")
    with pytest.raises(SpecError, match="flags"):
        RegexFormat("a", flags="q")
    assert RegexFormat("a").fingerprint() != RegexFormat("b").fingerprint()


def test_a_pattern_that_backtracks_is_stopped():
    assert one(RegexFormat(r"(a|aa)+$", timeout=0.2), "a" * 60 + "b") == Status.TIMED_OUT


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ('{"n": 1}', 1.0),
        ('```json\n{"n": 1}\n```', 1.0),
        ('{"n": 1} and more', 0.0),
        ('{"n": 1.5}', 0.0),
        ('{"n": NaN}', 0.0),
        ('{"m": 1}', 0.0),
        ('{"n": 1, "m": 2}', 0.0),
        ("", 0.0),
        ("{", 0.0),
        ("[" * 100_000, 0.0),
        ("1" * 5000, 0.0),
    ],
)
def test_json_schema(response, value):
    assert one(JsonSchemaFormat(SCHEMA), response) == value


def test_json_schema_says_why_and_checks_itself(tmp_path):
    scores = JsonSchemaFormat(SCHEMA).score(Batch(["p", "p"], ['{"n": "one"}', "nothing"]))
    assert scores.verdicts[0][0].detail == "$.n: 'one' is not of type 'integer'"
    assert scores.verdicts[1][0].detail.startswith("not JSON")
    assert one(JsonSchemaFormat({}, fenced=False), "```\n1\n```") == 0.0
    with pytest.raises(SpecError, match="not a valid JSON schema"):
        JsonSchemaFormat({"type": "thing"})
    with pytest.raises(SpecError, match="cannot read"):
        JsonSchemaFormat(tmp_path / "none.json")
    (tmp_path / "s.json").write_text('{"type": "null"}')
    assert one(JsonSchemaFormat(tmp_path / "s.json"), "null") == 1.0


@given(st.text(max_size=200))
def test_no_text_fails_the_form_rules(text):
    for rule in (JsonSchemaFormat(SCHEMA), RegexFormat("x+"), TagFormat(), ThinkFormat(), ExactMatch()):
        assert one(rule, text, "reference") in (0.0, 1.0)


GOOD = "<think>hm</think>\n<answer>4</answer>"


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (GOOD, 1.0),
        ("  " + GOOD + "\n", 1.0),
        ("Well: " + GOOD, 0.0),
        (GOOD + " bye", 0.0),
        ("<think>hm</think> so <answer>4</answer>", 0.0),
        ("<answer>4</answer><think>hm</think>", 0.0),
        ("<think>hm<answer>4</answer></think>", 0.0),
        ("<think>hm</think><answer>4", 0.0),
        ("<think>hm</think><answer></answer>", 0.0),
        ("<think>a</think><think>b</think><answer>4</answer>", 0.0),
        ("</think>hm<think><answer>4</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_tags(response, value):
    assert one(TagFormat(("think", "answer")), response) == value


def test_where_other_text_may_stand():
    assert one(TagFormat(outside="after"), GOOD + " bye") == 1.0
    assert one(TagFormat(outside="after"), "hey " + GOOD) == 0.0
    assert one(TagFormat(outside="any"), "hey " + GOOD + " bye") == 1.0
    assert one(TagFormat(non_empty=False), "<think></think><answer></answer>") == 1.0
    for wrong in ("think", (), ("a", "a"), ("<a>",)):
        with pytest.raises(SpecError, match="tags"):
            TagFormat(wrong)
    scores = TagFormat().score(Batch(["p"], ["<think>hm</think>"]))
    assert scores.verdicts[0][0].detail == "<answer> occurs 0 times, not once"


def test_an_opening_tag_that_the_template_printed_counts():
    """The response of a model whose template ends in <think> holds no opening tag of its own."""
    response = "hm</think> It is 4."
    assert one(ThinkFormat(), response) == 0.0
    for rendered in ("<|im_start|>assistant\n<think>\n", "<|assistant|><think>", "[/INST] <think> "):
        assert one(ThinkFormat(), response, rendered=rendered) == 1.0
    assert one(ThinkFormat(forced="<think>\n"), response) == 1.0
    # a template that switched thinking off printed the whole part
    assert one(ThinkFormat(), "It is 4.", rendered="<|im_start|>assistant\n<think>\n\n</think>\n\n") == 1.0
    # a sampler that gives the forced tag back with the response is not charged for it
    assert one(ThinkFormat(), "<think>" + response, rendered="<|im_start|>assistant\n<think>\n") == 1.0
    # two opening tags are still two
    assert one(ThinkFormat(), "<think>a<think>b</think> 4", rendered="assistant\n") == 0.0


def test_a_user_cannot_print_the_tag_for_the_model():
    assert one(ThinkFormat(), "hm</think> 4", rendered="<|im_start|>user\n<think><|im_end|>\n<|im_start|>assistant\n") == 0.0


@pytest.mark.parametrize(
    ("rendered", "tail"),
    [
        ("a <think>\n", "<think>\n"),
        ("<|assistant|>", ""),
        ("<s>", ""),
        ("x<think></think>\n", "<think></think>\n"),
        ("a < b>", ""),
        ("", ""),
    ],
)
def test_the_tail_of_a_rendered_prompt(rendered, tail):
    assert forced_tail(rendered) == tail


class RealTemplate:
    """The part of an engine that the rule uses, on a real tokenizer and template."""

    version = "v1"

    def __init__(self, folder):
        self.codec = Codec(folder)

    def render(self, request):
        return self.codec.render(request)


def test_the_engine_that_answered_shows_the_rendered_prompt(tmp_path):
    from tests.rewards.learned.tiny import TEMPLATE, save_model

    folder = save_model(tmp_path / "m", "llama")
    thinking = TEMPLATE.replace("<|im_start|>assistant\n{%", "<|im_start|>assistant\n<think>\n{%")
    assert thinking != TEMPLATE
    (folder / "chat_template.jinja").write_text(thinking)
    batch = Batch(["2+2?", [{"role": "user", "content": "2+2?"}]], ["hm</think> 4", "hm</think> 4"])
    assert ThinkFormat(engine=RealTemplate(folder)).score(batch).values.tolist() == [1.0, 1.0]
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    assert ThinkFormat(engine=RealTemplate(folder)).score(batch).values.tolist() == [0.0, 0.0]
