"""Requests of other tools become rows, numbers become their answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plaudit.serve import compat_shapes as shapes

OK = {"value": 0.5, "status": "ok"}
UNPARSABLE = {"value": None, "status": "unparsable", "detail": "no verdict line"}
TIMED_OUT = {"value": None, "status": "timed_out", "detail": ""}


def test_one_item_without_a_number_refuses_the_whole_answer_and_says_which():
    with pytest.raises(shapes.NotNumbers, match=r"1 of 2 items .* items 1 \(unparsable\)") as refused:
        shapes.numbers([OK, UNPARSABLE], None)
    assert refused.value.code == 422
    assert refused.value.body()["rows"] == [{"index": 1, "status": "unparsable", "detail": "no verdict line"}]


def test_what_may_come_on_another_try_is_503():
    with pytest.raises(shapes.NotNumbers) as refused:
        shapes.numbers([TIMED_OUT, UNPARSABLE], None)
    assert refused.value.code == 503


def test_the_users_own_number_is_sent_in_their_place():
    assert shapes.numbers([OK, UNPARSABLE, TIMED_OUT], -1.0) == ([0.5, -1.0, -1.0], [1, 2])


TEMPLATE = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def openrlhf(**fields):
    return shapes.OpenRLHFRequest.model_validate(fields)


def test_openrlhf_response_is_the_query_without_prompt_and_end_tokens():
    request = openrlhf(query=[TEMPLATE + "Because. <|im_end|>\n"], prompts=[TEMPLATE], labels=["42"])
    (row,) = shapes.openrlhf_rows(request, grouped=False).rows
    assert (row.prompt, row.responses, row.references) == (TEMPLATE, ("Because. ",), ("42",))


@pytest.mark.parametrize("end", ["</s>", "<|eot_id|>", "<｜end▁of▁sentence｜>", "<eos><|endoftext|>\n", ""])
def test_end_tokens_of_common_models_are_cut_and_nothing_else(end):
    assert shapes.without_end_marks("if a <|b and c|> d" + end) == "if a <|b and c|> d"


def test_white_space_is_kept_where_no_token_ends_the_text():
    assert shapes.without_end_marks("a \n") == "a \n"


def test_a_megabyte_of_white_space_or_marks_costs_no_time():
    assert shapes.without_end_marks(" " * 1_000_000) == " " * 1_000_000
    assert shapes.without_end_marks("<" * 1_000_000) == "<" * 1_000_000


def test_openrlhf_query_that_does_not_begin_with_its_prompt_is_refused():
    request = openrlhf(query=["ab", "xb"], prompts=["a", "a"])
    with pytest.raises(shapes.NotNumbers, match="queries 1 do not begin with their prompts"):
        shapes.openrlhf_rows(request, grouped=False)


def test_openrlhf_older_shape_has_no_prompts():
    (row,) = shapes.openrlhf_rows(openrlhf(query=["all of it</s>"]), grouped=False).rows
    assert (row.prompt, row.responses, row.references) == ("", ("all of it",), None)


@pytest.mark.parametrize("label", [None, ""])
def test_openrlhf_label_that_is_not_there_is_no_reference(label):
    assert shapes.openrlhf_rows(openrlhf(query=["ab"], prompts=["a"], labels=[label]), grouped=False).rows[0].references is None


def test_rewards_that_compare_get_the_answers_of_one_prompt_together():
    request = openrlhf(query=["pA", "qB", "pC"], prompts=["p", "q", "p"])
    asked = shapes.openrlhf_rows(request, grouped=True)
    assert [row.responses for row in asked.rows] == [("A", "C"), ("B",)]
    assert asked.places == [(0, 0), (1, 0), (0, 1)]


@given(st.lists(st.tuples(st.sampled_from("pq"), st.text(max_size=3), st.sampled_from(["", "l"])), min_size=1), st.booleans())
def test_every_item_finds_its_own_response(items, grouped):
    request = shapes.VerlRequest(
        solution_strs=[text for _, text, _ in items],
        ground_truths=[label for _, _, label in items],
        extra_infos=[{"prompt": prompt} for prompt, _, _ in items],
    )
    asked = shapes.verl_rows(request, grouped=grouped)
    for (prompt, text, label), (row, place) in zip(items, asked.places, strict=True):
        assert asked.rows[row].prompt == prompt
        assert asked.rows[row].responses[place] == text
        assert (asked.rows[row].references or ("",))[0] == label
    assert sum(len(row.responses) for row in asked.rows) == len(items)


def test_openrlhf_extra_logs_have_the_same_keys_for_every_sample():
    assert shapes.openrlhf_answer([1.0], [], marked=False) == {"rewards": [1.0], "scores": [1.0], "extra_logs": {}}
    marked = [shapes.openrlhf_answer([1.0], missing, marked=True)["extra_logs"] for missing in ([], [0])]
    assert marked == [{"unscored": [0.0]}, {"unscored": [1.0]}]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValidationError, match="labels has 1 items for 2 queries"):
        openrlhf(query=["a", "b"], labels=["x"])
    with pytest.raises(ValidationError, match="ground_truths has 1 items for 2 solution_strs"):
        shapes.VerlRequest(solution_strs=["a", "b"], ground_truths=["x"])


def test_verl_single_and_batch_answers():
    one = shapes.VerlRequest.model_validate(
        {"data_source": "gsm8k", "solution_str": "x", "ground_truth": "4", "extra_info": {"question": "2+2?", "num_turns": None}}
    )
    (row,) = shapes.verl_rows(one, grouped=False).rows
    assert (row.prompt, row.responses, row.references) == ("2+2?", ("x",), ("4",))
    assert shapes.verl_answer(one, [1.0], [], marked=False) == {"score": 1.0}
    many = shapes.VerlRequest(solution_strs=["x", "y"])
    assert shapes.verl_answer(many, [1.0, 0.0], [1], marked=True) == [
        {"score": 1.0, "unscored": 0.0},
        {"score": 0.0, "unscored": 1.0},
    ]
    for wrong in ({}, {"solution_str": "x", "solution_strs": ["y"]}):
        with pytest.raises(ValidationError, match="either solution_str or solution_strs"):
            shapes.VerlRequest.model_validate(wrong)


def test_classify_answers_where_verl_reads():
    request = shapes.ClassifyRequest.model_validate({"model": "m", "input": "a chat", "use_activation": False})
    (row,) = shapes.classify_rows(request).rows
    assert (row.prompt, row.responses) == ("", ("a chat",))
    assert shapes.classify_answer([0.25], "m")["data"][-1]["probs"][-1] == 0.25


def rerank(values, higher_is_better=True, **fields):
    request = shapes.RerankRequest.model_validate({"query": "q", **fields})
    return shapes.rerank_answer(request, values, "m", higher_is_better=higher_is_better)


def test_rerank_best_first_with_the_reference_shape_of_each_side():
    documents = ["a", {"text": "b"}, "c"]
    answer = rerank([0.1, 0.9, 0.9], documents=documents, return_documents=True, top_n=2)
    assert answer["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
        {"index": 2, "relevance_score": 0.9, "document": {"text": "c"}},
    ]
    assert rerank([0.1, 0.9], texts=["a", "b"], return_text=True) == [
        {"index": 1, "score": 0.9, "text": "b"},
        {"index": 0, "score": 0.1, "text": "a"},
    ]
    assert [one["index"] for one in rerank([0.1, 0.9], False, documents=["a", "b"])["results"]] == [0, 1]


@pytest.mark.parametrize(
    "wrong", [{}, {"documents": [], "query": "q"}, {"documents": ["a"], "texts": ["a"]}, {"texts": ["a"] * 5000}]
)
def test_rerank_refuses_what_is_not_one_list(wrong):
    with pytest.raises(ValidationError):
        shapes.RerankRequest.model_validate({"query": "q", **wrong})


def test_answers_are_json_without_nan():
    for answer in (
        shapes.openrlhf_answer([1.0], [], marked=True),
        shapes.classify_answer([1.0], "m"),
        rerank([1.0], documents=["a"]),
    ):
        json.dumps(answer, allow_nan=False)
