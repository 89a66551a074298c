from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.engines.encoding import Codec, read_control_strings
from plaudit.types import EngineError, Request
from tests.engines.tiny import CHATML, DROPS_SYSTEM, NO_SYSTEM, SPECIAL, tiny_tokenizer

SYSTEM = {"role": "system", "content": "You judge."}
USER = {"role": "user", "content": "Is it right?"}


def codec(folder: Path, template: str | None = CHATML) -> Codec:
    tiny_tokenizer(template).save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return Codec(folder)


def test_the_template_is_applied_and_the_prefix_opens_the_answer(tmp_path: Path) -> None:
    rendered = codec(tmp_path).render(Request((SYSTEM, USER), "Verdict:"))
    assert rendered == (
        "<|im_start|>system\nYou judge.<|im_end|>\n<|im_start|>user\nIs it right?<|im_end|>\n<|im_start|>assistant\nVerdict:"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_system_message_is_never_lost(tmp_path: Path, template: str) -> None:
    rendered = codec(tmp_path, template).render(Request((SYSTEM, USER)))
    assert rendered == "<|im_start|>user\nYou judge.\n\nIs it right?<|im_end|>\n<|im_start|>assistant\n"
    alone = codec(tmp_path, template).render(Request((SYSTEM,)))
    assert alone == "<|im_start|>user\nYou judge.<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_refuses_says_so(tmp_path: Path) -> None:
    refusing = codec(tmp_path, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match="roles must alternate"):
        refusing.render(Request((USER,)))
    with pytest.raises(ValueError, match="at least one message"):
        refusing.render(Request(()))


def test_without_a_template_there_are_plain_blocks(tmp_path: Path) -> None:
    plain = codec(tmp_path, None)
    assert plain.render(Request((SYSTEM, USER))) == "system: You judge.\n\nuser: Is it right?\n\nassistant:"
    assert plain.render(Request((USER,), "Yes")) == "user: Is it right?\n\nassistant: Yes"


def test_plain_text_goes_in_as_it_is(tmp_path: Path) -> None:
    plain = codec(tmp_path)
    assert plain.render(Request("  raw <b>\n", "x")) == "  raw <b>\nx"
    assert plain.decode(plain.encode_prompt(Request("The sum is 10."))) == "The sum is 10."


def test_the_beginning_token_is_put_in_front_where_the_tokenizer_does_so(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    begins = Codec(tmp_path)
    text = begins.encode_prompt(Request("Yes"))
    assert text[0] == 1
    assert text[-1] != 2, "an end token in front of the answer would change it"
    assert begins.encode_prompt(Request("<|im_start|>Yes")) == text
    assert begins.encode_prompt(Request((USER,))).count(1) == 2, "the template holds its own special tokens"


@pytest.mark.parametrize("text", ["Yes", " Yes", "\n\nYes", "  x", "", "10", "!?", "\u65e5"])
def test_continuations_are_the_text_s_own_tokens(tmp_path: Path, text: str) -> None:
    one = codec(tmp_path)
    assert one.encode_continuation(text) == one.tokenizer.encode(text, add_special_tokens=False)


def test_a_space_that_the_tokenizer_puts_first_is_no_part_of_a_continuation(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(["Yes Yes No No \n"] * 5, trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    one = Codec(tmp_path)
    assert one.tokenizer.convert_ids_to_tokens(one.tokenizer.encode("Yes")) == ["\u2581Yes"]
    assert one.tokenizer.convert_ids_to_tokens(one.encode_continuation(" Yes")) == ["\u2581Yes"]
    assert "\u2581" not in "".join(one.tokenizer.convert_ids_to_tokens(one.encode_continuation("Yes")))


def test_control_strings_come_from_the_file(tmp_path: Path) -> None:
    one = codec(tmp_path)
    assert one.control_strings == tuple(sorted(SPECIAL))
    assert "tokenizer" not in vars(one), "no tokenizer may have been loaded"
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EngineError, match="cannot be read as a tokenizer"):
        read_control_strings(tmp_path)
    with pytest.raises(EngineError, match="cannot be loaded"):
        _ = Codec(tmp_path).tokenizer
