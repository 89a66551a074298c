"""Language models as generators: rollouts over shared prompts, log-probabilities of every token, gradients on the prefix tree."""

from plaudit.engines.lora import LoRA
from plaudit.generators.language.generator import LanguageGenerator
from plaudit.generators.language.tiny import character_tokenizer, tiny_decoder
from plaudit.generators.language.tokens import TokenRows

__all__ = ["LanguageGenerator", "LoRA", "TokenRows", "character_tokenizer", "tiny_decoder"]
