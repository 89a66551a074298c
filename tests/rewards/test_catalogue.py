import pytest

from plaudit.rewards.catalogue import Resolver, catalogue
from plaudit.rewards.generative import Judge
from plaudit.rewards.learned import ScalarRewardModel
from plaudit.types import SpecError
from tests.rewards.generative.scripted import ScriptedEngine


@pytest.fixture
def resolver():
    return Resolver(ScriptedEngine)


def test_every_entry_has_a_name_a_family_and_a_sentence():
    entries = catalogue()
    assert len({entry.name for entry in entries}) == len(entries) > 15
    assert {entry.family for entry in entries} == {"judge", "learned", "rule"}
    assert all(len(entry.description) > 20 for entry in entries)


def test_judges_share_one_engine_that_is_opened_late():
    opened = []
    resolver = Resolver(lambda: opened.append(1) or ScriptedEngine())
    resolver.resolve("brevity")
    assert opened == []
    first, second = resolver.resolve("yes-token"), resolver.resolve("verdict")
    assert isinstance(first, Judge)
    assert first.engine is second.engine
    assert opened == [1]


def test_inline_compositions_with_settings_of_their_leaves(resolver):
    reward = resolver.resolve("{sum: {a: {weight: 2, reward: {name: brevity, half_length: 10}}, b: {weight: 1, reward: length}}}")
    assert reward.parts["a"].settings != resolver.resolve("brevity").settings


def test_contracts_and_compositions_from_yaml_files(resolver, tmp_path):
    contract = tmp_path / "kind.yaml"
    contract.write_text('base: yes-token\nkind: pointwise\nuser: "{{ prompt }} {{ response }} Kind?"\n')
    assert isinstance(resolver.resolve(str(contract)), Judge)
    composition = tmp_path / "both.yaml"
    composition.write_text("product: {a: brevity, b: yes-token}\n")
    assert {part.name for part in resolver.resolve(str(composition)).parts.values()} == {"brevity", "yes-token"}


def test_a_folder_or_hub_id_is_a_scalar_reward_model(resolver, tmp_path):
    assert isinstance(resolver.resolve(str(tmp_path)), ScalarRewardModel)
    assert isinstance(resolver.resolve("somebody/some-reward"), ScalarRewardModel)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nonsense", "unknown reward 'nonsense'"),
        ("absent.yaml", "absent.yaml cannot be read"),
        ("absent.py:thing", "absent.py: file not found"),
        ("{sum: [", "not valid YAML"),
        ("{name: brevity, half: 3}", "brevity"),
        ("{sum: {a: {weight: 1, reward: nonsense}}}", "nonsense"),
    ],
)
def test_what_is_no_reward_is_one_sentence(resolver, spec, said):
    with pytest.raises(SpecError) as caught:
        resolver.resolve(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_raises_is_said_in_one_sentence(resolver, tmp_path):
    (tmp_path / "mine.py").write_text("raise RuntimeError('not today')\n")
    with pytest.raises(SpecError, match="cannot be imported: RuntimeError: not today"):
        resolver.resolve(f"{tmp_path}/mine.py:reward")
