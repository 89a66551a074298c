r"""The table of formats in which answers come. `*` marks a case that some published checker is known to get wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.rules.answers import as_number, extract_answer, last_boxed

LATER = " I checked every step again and found no mistake in them, so we can be sure." * 5

FORMATS = [
    (r"So \boxed{42}.", "42", "boxed"),
    (r"First \boxed{1}. Wait, no: \boxed{2}.", "2", "boxed"),
    (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}", "boxed"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
    (r"\boxed{5} was cut: \boxed{\frac{1}{", "5", "boxed"),
    (r"\boxed 7 is it", "7", "boxed"),
    (r"\fbox{8}", "8", "boxed"),
    (r"$x = \boxed{1}$ or $x = \boxed{2}$", "2", "boxed"),
    (r"$\boxed{1}$ and $\boxed{2}$", "1, 2", "boxed"),
    (r"\boxed{}. The answer is 3", "3", "phrase"),
    ("9 - 2 = 7\n#### 7", "7", "hashes"),
    ("#### $1,250.50", "1,250.50", "hashes"),
    ("#### 5\nThanks for asking, 6 people did.", "5", "hashes"),
    ("She sold 4 and 5.\nA: 9", "9", "phrase"),
    ("The answer is 42.", "42", "phrase"),
    ("The answer is 42." + LATER + " It took 17 steps.", "42", "phrase"),
    ("Final answer: 42" + "\n" + LATER, "42", "phrase"),
    ("**Final Answer:** $\\frac{3}{4}$", r"\frac{3}{4}", "phrase"),
    ("The final answer is: **-3**", "-3", "phrase"),
    ("The answer is therefore 12 apples, since 3 * 4 = 12.", "12", "phrase"),
    ("My answer is $18 per day.", "18", "phrase"),
    ("The answer is 2k+2.", "2k+2", "phrase"),
    ("The answer is 1, -2.", "1, -2", "phrase"),
    ("The answer is 1 or -2.", "1 or -2", "phrase"),
    ("The answer is 12, as shown above with 3 steps.", "12", "phrase"),
    ("The answer is 12, a nice number.", "12", "phrase"),
    ("The answer is $x^2 + 1$. Check: $x = 1$ gives 2.", "x^2 + 1", "phrase"),
    ("The answer to the second question is 3/4.", "3/4", "phrase"),
    ("I first thought the answer is 5. But the answer is 6.", "6", "phrase"),
    ("Answer: (C)", "(C)", "phrase"),
    ("**Answer:**\n\n42\n", "42", "phrase"),
    ("42", "42", "whole"),
    (r"\frac{1}{2}", r"\frac{1}{2}", "whole"),
    (".0000672", ".0000672", "whole"),
    ("Evelyn", "Evelyn", "whole"),
    ("1, because 7 x 7 = 49.", "1", "leading"),
    ("85 minutes: 20 to ten, then 60, then 5.", "85", "leading"),
    ("8 pencils cost 8 x 3 = 24 coins.", "24", "last"),
    ("2 apples, 3 pears, so 5", "5", "last"),
    ("So in all there are 12 of them left.", "12", "last"),
    ("It costs $5 and $6 more, so $11 together.", "11", "last"),
    ("We get 1,234,567 in the end.", "1,234,567", "last"),
    ("It fell to -0.5 degrees.", "-0.5", "last"),
    ("This makes $x = 3$.", "x = 3", "last"),
    ("<think>maybe \\boxed{9}</think>It is 4 then.", "4", "last"),
    ("版本 the answer：12", "12", "phrase"),
    ("I do not know.", None, None),
    ("", None, None),
    ("\\boxed{", None, None),
]


@pytest.mark.parametrize(("text", "answer", "found"), FORMATS)
def test_formats(text, answer, found):
    said = extract_answer(text)
    assert (said and (said.text.strip("$ "), said.found)) == (answer and (answer, found))


def test_the_stricter_ways_stop_earlier():
    assert extract_answer("There are 12.", "marked") is None
    assert extract_answer("The answer is 12.", "boxed") is None
    assert extract_answer(" x + 1 ", "whole").text == "x + 1"


NUMBERS = [
    ("42", "42"),
    ("+42", "42"),
    ("−7", "-7"),
    ("1,234", "1234"),
    ("1, 234", "1234"),
    ("10{,}000", "10000"),
    (r"10,\!080", "10080"),
    (r"\$32,\!348", "32348"),
    ("$18.90", "18.90"),
    ("€5", "5"),
    ("12%", "12"),
    (r"12\%", "12"),
    ("12 percent", "12"),
    ("3/4", "3/4"),
    ("3 / 4", "3/4"),
    ("1 1/2", "3/2"),
    (r"\frac{3}{4}", "3/4"),
    (r"-\frac34", "-3/4"),
    (r"1\frac{4}{5}", "9/5"),
    (r"\dfrac{17}{50}", "17/50"),
    (".5", "1/2"),
    ("5.", "5"),
    ("2.5e3", "2500"),
    ("42 apples", "42"),
    ("5 km/h", "5"),
    ("16cm", "16"),
    (r"15\mbox{ cm}^2", "15"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"90^\circ", "90"),
    ("90°", "90"),
    ("x = 5", "5"),
    ("2 * 3 = 6", "6"),
    ("**7**", "7"),
]
NO_NUMBERS = [
    "",
    "x",
    "2k",
    "52_8",
    r"\sqrt{2}",
    r"2\pi",
    "3 pi",
    "1/0",
    r"\frac{1}{0}",
    "5 million",
    "1,23",
    "1e999",
    "(1,2)",
    "1 or 2",
    "0x1F",
    "٣x",
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_plain_numbers(text, value):
    from fractions import Fraction

    assert as_number(text).value == Fraction(value)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_plain_number_is_left_to_algebra(text):
    assert as_number(text) is None


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("\\boxed{}()$#A: answeris.,0123456789/%^_-+=\n </think>"), max_size=80))
def test_no_text_breaks_the_extraction(text):
    said = extract_answer(text)
    assert said is None or said.text.strip() == said.text
    if said is not None:
        as_number(said.text)


@given(
    st.recursive(
        st.sampled_from(["x", "1", "\\{", "\\}", " "]), lambda inner: st.lists(inner).map(lambda xs: "{" + "".join(xs) + "}")
    )
)
def test_a_box_holds_its_balanced_content(content):
    expected = content.strip() or None
    assert last_boxed("\\boxed{" + content + "} }{") == expected


HOSTILE = [
    "\\boxed{",
    "{",
    "$",
    "$$",
    "\\(",
    "\\[",
    "1,",
    "1,234",
    "answer ",
    "answer is ",
    "the answer to ",
    "A: ",
    "#### ",
    " ",
    " \n",
    "- ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_long_hostile_texts_are_searched_in_linear_time(piece):
    # 300,000 characters take well under a second; a search that backtracks takes minutes, and the test's time limit ends it
    extract_answer(piece * (300_000 // len(piece)) + "x")
