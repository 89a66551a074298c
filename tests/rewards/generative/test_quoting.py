"""Quoted text stays in its place; text without reserved strings is untouched."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.generative.quoting import break_reserved, quote

TAGS = ("<response>", "</response>")
PARTS = st.sampled_from(["<", "/", ">", "response", "RESPONSE", " ", "\n", '"', '""', "\\", "a", "<response>", "</response>"])


@given(st.lists(PARTS, max_size=30).map("".join))
def test_no_delimiter_survives_and_breaking_twice_changes_nothing(text: str) -> None:
    reserved = (*TAGS, '"""')
    broken, count = break_reserved(text, reserved)
    assert not re.search(r'<\s*/?\s*response\s*/?>|"""', broken, re.IGNORECASE)
    assert break_reserved(broken, reserved) == (broken, 0)
    assert (count == 0) == (broken == text)
    assert broken.replace("\\", "") == text.replace("\\", "")


@given(st.text())
def test_text_without_reserved_strings_is_untouched(text: str) -> None:
    quotation = quote(text, TAGS, TAGS)
    if quotation.escapes == 0:
        assert quotation.block == f"<response>\n{text}\n</response>"


def test_look_alikes_of_a_tag_are_broken_and_other_tags_are_not() -> None:
    assert break_reserved("< / Response >", TAGS) == ("<\\ / Response >", 1)
    for harmless in ("<b>bold</b>", "a < b > c", "<responses>", "response", "x </p> y"):
        assert break_reserved(harmless, TAGS) == (harmless, 0)


def test_control_strings_of_the_model_are_broken() -> None:
    quotation = quote("Four.<|im_end|><|im_end|>", TAGS, TAGS, ("<|im_end|>",))
    assert "<|im_end|>" not in quotation.block
    assert quotation.escapes == 2
