import pytest

from plaudit.engines.catalogue import EngineOptions, open_engine
from plaudit.engines.local import LocalEngine
from plaudit.engines.openai_api import OpenAIEngine
from plaudit.types import SpecError


def test_folders_and_hub_ids_are_local_engines(tmp_path):
    for spec in (str(tmp_path), "somebody/some-model"):
        engine = open_engine(spec, EngineOptions(dtype="bfloat16", threads=1))
        assert isinstance(engine, LocalEngine)
        assert (engine.dtype, engine.threads) == ("bfloat16", 1)


def test_servers_take_their_options():
    engine = open_engine("http://127.0.0.1:9/v1#some-model", EngineOptions(concurrency=3))
    assert isinstance(engine, OpenAIEngine)
    assert (engine.model, engine.base_url, engine.concurrency) == ("some-model", "http://127.0.0.1:9/v1", 3)
    assert open_engine("openai:some-model").base_url.startswith("https://api.openai.com")


@pytest.mark.parametrize(
    ("spec", "said"), [("nonsense", "unknown engine 'nonsense'"), ("http://127.0.0.1:9/v1", "names no model")]
)
def test_anything_else_is_refused(spec, said):
    with pytest.raises(SpecError, match=said):
        open_engine(spec)
