from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.algebra import Ensemble, Gate, Normalised, Otherwise, Product, Route, WeightedSum
from plaudit.rewards.base import BaseReward
from plaudit.rewards.composition import build, load, parse_yaml
from plaudit.rewards.ordering import Shuffled, Symmetrised
from plaudit.types import SpecError, Status
from tests.rewards.small import Biased, Listwise, Value, batch_of


def resolve(leaf):
    kinds = {"value": Value, "biased": Biased, "listwise": Listwise}
    given = {"name": leaf} if isinstance(leaf, str) else dict(leaf)
    name = given.pop("name")
    if name not in kinds:
        raise SpecError(f"unknown reward '{name}'")
    return kinds[name](**given)


def test_a_document_builds_what_the_operators_build():
    text = """
    sum:
      value: 0.7
      double: {weight: 0.3, reward: {name: value, scale: 2.0}}
    """
    reward = build(parse_yaml(text, "here"), resolve)
    by_hand = WeightedSum({"value": (0.7, Value()), "double": (0.3, Value(scale=2.0))})
    assert reward.fingerprint() == by_hand.fingerprint()
    assert reward.score(batch_of(1.0)).values.item() == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("value", Value),
        ("{name: value, scale: 3}", Value),
        ("product: {a: value, b: value, on_missing: 1.0}", Product),
        ("ensemble: {members: [value, {name: value, scale: 2}], reduce: lcb, k: 2}", Ensemble),
        ("ensemble: {members: {a: value, b: value}}", Ensemble),
        ("gate: {gate: value, reward: value, threshold: 0.1, otherwise: null}", Gate),
        ("otherwise: {reward: value, fallback: value}", Otherwise),
        ("route: {column: kind, rewards: {1: value, code: value}, default: value}", Route),
        ("normalised: {reward: value, how: rank, equal: zero}", Normalised),
        ("normalised: {reward: value}", Normalised),
        ("symmetrised: biased", Symmetrised),
        ("shuffled: {reward: listwise, shuffles: all}", Shuffled),
        ("sum: {value: 1, on_missing: drop_for_group, normalise: group_zscore}", WeightedSum),
        ("sum: {value: 1, normalise: {how: fixed, mean: 1, std: 2}}", WeightedSum),
    ],
)
def test_every_operation_can_be_written(text, kind):
    assert type(build(parse_yaml(text, "here"), resolve)) is kind


def test_settings_arrive():
    gate = build(parse_yaml("gate: {gate: value, reward: value, threshold: 2, otherwise: -1}", "here"), resolve)
    assert gate.score(batch_of(1.0, 3.0)).values.tolist() == [-1.0, 3.0]
    total = build(parse_yaml("sum: {value: 2, on_missing: 0.25, normalise: {how: fixed, mean: 1, std: 2}}", "here"), resolve)
    assert total.score(batch_of(5.0, None)).values.tolist() == [4.0, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum: {helpful: {weight: a lot, reward: value}}", "sum.helpful.weight: expected a number, found 'a lot'"),
        ("sum: {value: 1e-3}", "sum.value: expected a number, found '1e-3' (YAML needs a point: write 1.0e-03)"),
        ("sum: {value: .nan}", "sum.value: expected a number, found nan"),
        ("sum: {value: true}", "sum.value: expected a number, found True"),
        ("sum: {helpful: {weight: 1, rewards: value}}", "sum.helpful.rewards: unknown key; expected weight, reward"),
        ("sum: {helpful: {reward: value}}", "sum.helpful: the key 'weight' is missing"),
        ("sum: {yes: {weight: 1, reward: value}}", "sum: the key True is not text; put it in quotes"),
        ("sum: {value: 1, on_missing: skip}", "sum: on_missing is 'skip'; expected row, drop_for_group"),
        ("sum: {value: 1, on_missing: [row]}", "sum: on_missing is ['row']"),
        ("sum: {value: 1, normalise: zscore}", "sum.normalise: unknown normalisation 'zscore'"),
        ("sum: {value: 1, normalise: {how: rank, flor: 1}}", "sum.normalise.flor: unknown key"),
        ("sum: [value]", "sum: expected a mapping, found ['value']"),
        ("sum: {}", "sum: WeightedSum needs at least one part"),
        ("summ: {value: 1}", "the composition: unknown operation 'summ'; expected one of sum"),
        ("{sum: {value: 1}, product: {a: value}}", "found the keys sum, product"),
        ("product: {a: {ensemble: {members: [value, nobody]}}}", "product.a.ensemble.members[1]: unknown reward 'nobody'"),
        ("product: {a: {name: value, scael: 2}}", "product.a: "),
        ("product: {a: {name: 3}}", "product.a.name: expected a reward's name, found 3"),
        ("product: {a: 3}", "product.a: expected a reward's name"),
        ("ensemble: {members: [value], reduce: max}", "ensemble: reduce is 'max'"),
        ("ensemble: {reduce: min}", "ensemble: the key 'members' is missing"),
        ("gate: {gate: value, reward: value, otherwise: nothing}", "gate.otherwise: expected a number"),
        ("route: {column: 3, rewards: {}}", "route.column: expected a column's name"),
        ("route: {column: kind, rewards: value}", "route.rewards: expected a mapping"),
        ("shuffled: {reward: listwise, shuffles: some}", "shuffled.shuffles: expected a whole number or all"),
        ("shuffled: {reward: listwise, shuffles: 0}", "shuffled: shuffles must be at least 1"),
        ("constant: much", "constant: expected a number"),
        ("nobody", "unknown reward 'nobody'"),
        ("3", "the composition: expected a reward's name"),
        ("", "the composition: expected a reward's name"),
    ],
)
def test_mistakes_are_told_with_their_place(text, message):
    with pytest.raises(SpecError) as error:
        build(parse_yaml(text, "here"), resolve)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).count("sum.helpful") <= 1


def test_a_key_written_twice_is_an_error():
    with pytest.raises(SpecError, match="'value' is written twice"):
        parse_yaml("sum:\n  value: 1\n  value: 2\n", "here")
    with pytest.raises(SpecError, match="not valid YAML"):
        parse_yaml("sum: {", "here")


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["value", "row"]))
keys = st.sampled_from(["sum", "product", "gate", "reward", "weight", "name", "members", "on_missing", "normalise", "how", "a"])
documents = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)))


@given(documents)
@settings(max_examples=200, deadline=None)
def test_any_document_is_a_reward_or_one_clear_error(document):
    try:
        built = build(document, resolve)
    except SpecError:
        return
    assert isinstance(built, BaseReward)


def test_a_file_gives_its_name(tmp_path: Path):
    path = tmp_path / "blend.yaml"
    path.write_text("sum: {value: 2}", encoding="utf-8")
    reward = load(path, resolve)
    assert reward.name == "blend"
    assert reward.score(batch_of(1.0, None)).status.tolist() == [Status.OK, Status.ABSTAINED]
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path / "nothing.yaml", resolve)


def blocks(language: str) -> list[str]:
    text = (Path(__file__).resolve().parents[2] / "docs" / "composing.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import importlib

    from plaudit.rewards.rules import RULES

    python, documents = blocks("python"), blocks("yaml")
    assert len(python) >= 5
    assert len(documents) >= 2
    (tmp_path / "composing_page.py").write_text("\n".join(python), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    page = importlib.import_module("composing_page")
    assert "letters 1.0" in capsys.readouterr().out

    def of_page(leaf):
        given = {"name": leaf} if isinstance(leaf, str) else dict(leaf)
        name = given.pop("name")
        return getattr(page, name) if hasattr(page, name) else RULES[name](**given)

    page.batch.extras["kind"] = ["colour", "colour", "text", "other"]
    for text in documents:
        reward = build(parse_yaml(text, "page"), of_page)
        scores = reward.score_group(page.batch)
        assert scores.ok.all(), scores.counts()
