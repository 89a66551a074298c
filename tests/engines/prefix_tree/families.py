"""Tiny random models of the families that the tree serves, and of some that it does not."""

import types

import torch
import transformers

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 256}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def config(family):
    """A small configuration."""
    every = {**SIZES, **HEADS, "attn_implementation": "sdpa"}
    return {
        "llama": lambda: transformers.LlamaConfig(**every),
        "qwen2": lambda: transformers.Qwen2Config(**every),
        "qwen3": lambda: transformers.Qwen3Config(**every, head_dim=8),
        "gemma": lambda: transformers.GemmaConfig(**every, head_dim=8),
        "mistral": lambda: transformers.MistralConfig(**every, sliding_window=None),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=64, n_positions=256, n_embd=32, n_layer=2, n_head=4, attn_implementation="sdpa",
            attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
        ),
        "mistral with a window": lambda: transformers.MistralConfig(**every, sliding_window=8),
        "gemma2": lambda: transformers.Gemma2Config(**{**every, "attn_implementation": "eager"}, head_dim=8),
        "mamba": lambda: transformers.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4),
    }[family]()  # fmt: skip


def model(family, dtype=torch.float64):
    """A random model in evaluation mode."""
    torch.manual_seed(3)
    made = transformers.AutoModelForCausalLM.from_config(config(family)).to(dtype).eval()
    with torch.no_grad():  # the usual small initial weights would hide a wrong path behind nearly equal states
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    if dtype == torch.float64:
        for module in made.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = types.MethodType(_norm, module)
    return made


def _norm(module, states):
    """RMS norm in the states' own precision: the models' own drops to float32, which rounds gradients by their order."""
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return module.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + epsilon)


SERVED = ("llama", "qwen2", "qwen3", "gemma", "mistral", "gpt2")
NOT_SERVED = ("mistral with a window", "gemma2", "mamba")
