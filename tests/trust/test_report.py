from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plaudit.data.row import Row
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.trust.report import write_report
from plaudit.trust.report_cards import disputed_responses
from plaudit.types import Status, UserError, Verdict
from tests.trust.results import biased_pairs, row, scored

VOID = {"meta", "link", "br", "img", "input", "hr"}
ATTACK = "</script></div><script>window.broken = 1</script><img src=x onerror=window.broken=2>{{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements, ids, scripts, texts, and whether every element is closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            attrs, before = self.scripts[-1]
            self.scripts[-1] = (attrs, before + data)
        elif "style" not in self.open:
            self.text += data
            if "td" in self.open or "th" in self.open:
                self.cells[-1][-1] += data.strip()

    @property
    def figures(self) -> dict[str, dict]:
        return {str(attrs["id"]): json.loads(text) for attrs, text in self.scripts if attrs.get("type") == "application/json"}

    def line(self, name: str) -> list[str]:
        """The first table line that starts with `name`."""
        return next(cells for cells in self.cells if cells and cells[0] == name)


def report(tmp_path: Path, rows: Sequence[Row], results: dict[str, list[RowResult]], **more: object) -> Page:
    page = Page(write_report(tmp_path / "report.html", "a report", rows, results, facts={"seed": "0"}, **more))
    assert page.open == []
    return page


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def three_rewards(count: int = 40) -> tuple[list[Row], dict[str, list[RowResult]]]:
    kinds = {"kinds": ["right", "injection"]}
    judged = biased_pairs(count, 0.12)
    rows = [
        Row(r.row.id, r.row.prompt, r.row.responses, gold=r.row.gold, section=f"part {place % 2}", extras=kinds)
        for place, r in enumerate(judged)
    ]
    pairs = [RowResult(of, pairs=result.pairs) for of, result in zip(rows, judged, strict=True)]
    right = [scored(of, list(of.gold or ())) for of in rows]
    holes = [scored(of, [None, 1.0] if place % 4 == 0 else [0.2, 0.1], Status.TIMED_OUT) for place, of in enumerate(rows)]
    return rows, {"pairwise": pairs, "perfect": right, "holes": holes}


def test_every_section_is_there_and_figures_are_drawn(tmp_path):
    rows, results = three_rewards()
    page = report(tmp_path, rows, results)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    for key in (
        "headline",
        "accuracy",
        "picks",
        "distributions",
        "agreement",
        "order",
        "length",
        "sections",
        "kinds",
        "disagreements",
    ):
        assert key in ids
    assert len(ids) == len(set(ids))
    assert len(page.figures) == 8
    drawn = {attrs["data-figure"] for _, attrs in page.tags if "data-figure" in attrs}
    assert drawn == set(page.figures)
    assert all(figure["data"] for figure in page.figures.values())


def test_a_planted_order_bias_is_said_with_its_size(tmp_path):
    rows, results = three_rewards(300)
    text = squeezed(report(tmp_path, rows, results).text)
    assert re.search(r"pairwise prefers the first-shown response by \+1[12] points \[1[012], 1[23]\] \(n=300\)", text)
    second = biased_pairs(300, -0.2)
    text = squeezed(report(tmp_path, [result.row for result in second], {"late": second}).text)
    assert re.search(r"late prefers the second-shown response by \+(19|20|21) points", text)
    fair = biased_pairs(300, 0.0)
    assert "fair shows no clear preference" in squeezed(report(tmp_path, [r.row for r in fair], {"fair": fair}).text)


def test_missing_values_are_counted_by_status_and_bounded(tmp_path):
    rows, results = three_rewards()
    line = report(tmp_path, rows, results).line("holes")
    assert line[1] == "70 of 80 responses"
    assert line[2] == "10 timed out"
    # of 30 judged contests the first-listed wins: right where the number is odd, which is 20 of them
    assert line[3].startswith("67 %")
    assert "50 % if all 10 without a number were wrong, 75 % if right" in line[3]


def test_a_perfect_reward_and_the_baselines(tmp_path):
    rows, results = three_rewards()
    page = report(tmp_path, rows, results)
    assert page.line("perfect")[3].startswith("100 %")
    assert page.line("baseline: longest")[3].startswith("50 %")
    assert page.line("chance")[3:5] == ["50 %", "50 %"]
    assert "perfect lets the better response win in 100 % [91, 100] (n=40) of pairs: above chance" in squeezed(page.text)


def test_a_pairwise_reward_picks_the_likeliest_winner(tmp_path):
    rows, results = three_rewards()
    assert "(n=40)" in report(tmp_path, rows, results).line("pairwise")[4]
    given = {name: [0 if name == "perfect" else None] * 40 for name in results}
    page = report(tmp_path, rows, results, picks=given)
    assert page.line("perfect")[4].startswith("50 %")
    assert page.line("pairwise")[4] == "not measured (40 no pick)"


def test_kinds_that_fool_are_named(tmp_path):
    rows, results = three_rewards()
    text = squeezed(report(tmp_path, rows, {"perfect": results["perfect"], "wrong": results["holes"]}).text)
    assert "perfect: most fooled by" in text
    assert re.search(r"wrong: most fooled by right, 0 % \[\d+, \d+\] \(n=10\) right", text)


def test_one_reward_has_nothing_to_agree_with_and_is_held_against_the_labels(tmp_path):
    rows, results = three_rewards()
    page = report(tmp_path, rows, {"pairwise": results["pairwise"]})
    assert "There is one reward only" in page.text
    assert page.line("pairwise")[5] == "not measured"
    assert "agreement-figure" not in page.figures
    assert "the labels" in page.text.split("Worst disagreements")[-1]


def test_without_labels_nothing_is_made_up(tmp_path):
    rows = [row(number, None) for number in range(12)]
    results = {"a": [scored(of, [1, 0]) for of in rows], "b": [scored(of, [0, 1]) for of in rows]}
    page = report(tmp_path, rows, results)
    assert page.line("a")[3:5] == ["not measured", "not measured"]
    assert "The rows have no labels." in page.text
    assert not any(cells and cells[0] in ("chance", "baseline: longest") for cells in page.cells)
    assert "accuracy-figure" not in page.figures
    assert "a puts #1 above #2, b the other way round." in page.text
    assert "0 % [" in page.line("a and b")[1]


def test_a_reward_that_judged_nothing(tmp_path):
    rows = [row(number) for number in range(5)]
    page = report(tmp_path, rows, {"dead": [scored(of, [None, None], Status.UNREACHABLE) for of in rows]})
    line = page.line("dead")
    assert line[1:4] == ["0 of 10 responses", "10 unreachable", "not measured (5 unreachable)"]
    assert "dead: not measured" in squeezed(page.text)


def test_single_responses_with_right_and_wrong_labels(tmp_path):
    rows = [row(number, (float(number % 2),)) for number in range(10)]
    page = report(tmp_path, rows, {"rule": [scored(of, list(of.gold or ())) for of in rows]})
    assert page.line("rule")[3].startswith("100 % [")
    assert "agreement-figure" not in page.figures


def test_equal_values_and_one_row(tmp_path):
    rows = [row(0)]
    page = report(tmp_path, rows, {"flat": [scored(rows[0], [2.0, 2.0])]})
    assert page.line("flat")[3].startswith("50 %")
    assert "nan" not in page.text.lower()


def test_rationales_and_words_of_judges_are_shown(tmp_path):
    of = row(0)
    said = [Verdict(choice="B", value=0.1, text="the second one is clearer")]
    pairwise = RowResult(of, pairs=[PairResult(0, 1, 0.1, Status.OK, (0.1, 0.1), verdicts=said)])
    page = report(tmp_path, [of], {"judge": [pairwise], "rule": [scored(of, [1, 0])]}, rationales={("r0", 1): "because it is"})
    assert "the second one is clearer" in page.text
    assert "because it is" in page.text
    assert "The labels side with rule." in page.text


def test_every_rationale_is_shown_even_of_a_row_without_a_clash(tmp_path):
    rows = [row(number) for number in range(30)]
    results = {"a": [scored(of, [1, 0]) for of in rows], "b": [scored(of, [0, 1] if of.id != "r7" else [1, 0]) for of in rows]}
    rationales = {("r7", 0): "reasons for seven", ("r29", 1): "reasons for the last"}
    text = report(tmp_path, rows, results, rationales=rationales).text.split("Worst disagreements")[-1]
    assert "reasons for seven" in text
    assert "reasons for the last" in text
    assert text.count("Responses and each reward's number") == 10


def test_disputed_responses_are_those_of_the_cards(tmp_path):
    rows, results = three_rewards()
    disputed = disputed_responses(rows, results, limit=3)
    assert len(disputed) == 6
    rationales = {(of.id, place): f"why {of.id} {place}" for of, place in disputed_responses(rows, results)}
    text = report(tmp_path, rows, results, rationales=rationales).text
    assert all(reason in text for reason in rationales.values())
    assert text.count("Responses and each reward's number") == len(rationales) / 2


def attacked(text: str) -> tuple[list[Row], dict[str, list[RowResult]], dict]:
    of = Row(text, text, (text, text + "!"), gold=(1.0, 0.0), section=text, extras={"kinds": [text, text]}, notes=(text,))
    verdict = Verdict(text=text, value=0.0, choice=text)
    judged = RowResult(of, [ResponseResult(0.0, Status.OK, verdicts=[verdict]), ResponseResult(1.0, Status.OK)])
    more = {"rationales": {(text, 0): text}, "notes": [text]}
    return [of], {text: [judged], "other": [scored(of, [1, 0])]}, more


def test_no_text_of_a_user_can_act(tmp_path):
    rows, results, more = attacked(ATTACK)
    path = write_report(tmp_path / "report.html", ATTACK, rows, results, facts={ATTACK: ATTACK}, **more)
    page = Page(path)
    assert page.open == []
    assert [attrs for tag, attrs in page.tags if tag == "script" and "type" not in attrs] == [{}, {}]
    assert not any(tag == "img" or any(name.startswith("on") for name in attrs) for tag, attrs in page.tags)
    assert "{{ 7 * 7 }}" in page.text
    assert ATTACK in page.text
    for figure in page.figures.values():
        assert "<" not in re.sub(r"<extra></extra>", "", json.dumps(figure))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("<>&\"'\x00\ud800/")), min_size=1, max_size=40))
def test_any_text_gives_a_whole_page(tmp_path, text):
    rows, results, more = attacked(text)
    results = {name if name != "other" else "the other one": column for name, column in results.items()}
    path = write_report(tmp_path / "report.html", text, rows, results, **more)
    path.read_bytes().decode("utf-8")
    page = Page(path)
    assert page.open == []
    assert len([attrs for tag, attrs in page.tags if tag == "script" and "type" not in attrs]) == 2


def test_the_page_is_self_contained_and_its_policy_names_its_scripts(tmp_path):
    rows, results = three_rewards()
    page = report(tmp_path, rows, results)
    assert not any(attrs.get(name) for _, attrs in page.tags for name in ("src", "srcset", "data"))
    assert all(str(attrs["href"]).startswith("#") for _, attrs in page.tags if "href" in attrs)
    policy = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and attrs.get("http-equiv"))
    allowed = set(re.findall(r"'sha256-([^']+)'", str(policy)))
    ran = [text for attrs, text in page.scripts if "type" not in attrs]
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in ran} == allowed
    assert sum("plotly.js v" in text for text in ran) == 1
    assert "default-src 'none'" in str(policy)


def test_plots_and_tables_have_words_for_those_who_do_not_see_them(tmp_path):
    rows, results = three_rewards()
    page = report(tmp_path, rows, results)
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for _, attrs in page.tags if "data-figure" in attrs)
    names = [tag for tag, _ in page.tags]
    assert names.count("caption") == names.count("table")
    assert names.count("h1") == 1
    assert next(attrs for tag, attrs in page.tags if tag == "html")["lang"] == "en"


def test_long_responses_are_cut_and_said_to_be(tmp_path):
    of = Row("r", "q", ("a" * 1_000_000, "b"), gold=(1.0, 0.0))
    results = {"x": [scored(of, [1, 0])], "y": [scored(of, [0, 1])]}
    page = report(tmp_path, [of], results)
    assert "(998,800 more characters)" in page.text


def test_equal_input_gives_equal_bytes_and_replaces_the_old_file(tmp_path):
    rows, results = three_rewards(8)
    path = tmp_path / "report.html"
    path.write_text("old")
    first = write_report(path, "t", rows, results).read_bytes()
    assert write_report(str(path), "t", rows, results).read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_wrong_input_is_refused(tmp_path):
    rows, results = three_rewards(4)
    with pytest.raises(ValueError, match="at least one reward"):
        write_report(tmp_path / "r.html", "t", rows, {})
    with pytest.raises(ValueError, match="different rows"):
        write_report(tmp_path / "r.html", "t", rows[:3], results)
    with pytest.raises(UserError):
        write_report(tmp_path / "no" / "r.html", "t", rows, results)
    assert list(tmp_path.iterdir()) == []
