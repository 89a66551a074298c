"""vLLM's engine as far as it goes without a GPU: conversions on vLLM's own classes, refusals, versions."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from plaudit.engines import vllm
from plaudit.engines.vllm import VLLMEngine
from plaudit.types import EngineError, Request, Sampling, UserError
from tests.engines.tiny import save_tiny_model
from tests.engines.vllm_outputs import check, stand_ins

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".peers" / "vllm"
ABSENT = importlib.util.find_spec("vllm") is None


def test_conversions_on_stand_ins() -> None:
    check(stand_ins())


@pytest.mark.skipif(not (ENVIRONMENT / ".ready").is_file(), reason="no environment with vLLM: make .peers/vllm/.ready")
def test_conversions_on_vllm_s_own_classes() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), sysconfig.get_paths()["purelib"]])
    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "tests.engines.vllm_outputs"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not ABSENT, reason="vLLM is installed here")
def test_without_vllm_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    engine = VLLMEngine(save_tiny_model(tmp_path))
    assert "<|im_end|>" in engine.control_strings
    assert engine.render(Request("Judge", " it")) == "Judge it"
    for use in (engine.check, lambda: engine.generate([Request("x")], Sampling()), lambda: engine.version):
        with pytest.raises(UserError, match=r"pip install 'plaudit\[vllm\]'"):
            use()


def test_the_version_names_what_changes_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"vllm": "0.33.0"}
    monkeypatch.setattr(vllm, "version", installed.__getitem__)
    folder, adapter = save_tiny_model(tmp_path / "model"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(EngineError, match="holds no LoRA adapter"):
        VLLMEngine(folder, adapter=adapter).check()
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    versions = [
        VLLMEngine(folder, **settings).version
        for settings in ({}, {"dtype": "bfloat16"}, {"max_length": 99}, {"adapter": adapter}, {"gpus": 2}, {"extra": {"seed": 1}})
    ]
    assert len(set(versions)) == len(versions)
    assert VLLMEngine(folder, memory=0.5).version == versions[0]
    installed["vllm"] = "0.34.0"
    assert VLLMEngine(folder).version != versions[0]
