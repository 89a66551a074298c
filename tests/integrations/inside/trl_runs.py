"""Training runs of TRL with plaudit's rewards; what the trainer logged, beside plaudit's own numbers for the same completions."""

import sys
import tempfile

import torch
from datasets import Dataset

from plaudit import Batch, as_reward, load_reward
from plaudit.engines.tiny import character_tokenizer, tiny_causal_model
from plaudit.integrations.trl import trl_judge, trl_reward
from plaudit.types import Status
from tests.integrations.inside import tell

CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def model_and_tokenizer(chat):
    tokenizer = character_tokenizer("0123456789+=? ")
    if chat:
        tokenizer.chat_template = CHAT
    return tiny_causal_model(tokenizer, layers=1, width=32, heads=2, context=64), tokenizer


def composition():
    digits = as_reward(lambda response: sum(one.isdigit() for one in response) / 8, name="digits", settings={})
    return 0.75 * load_reward("math") + 0.25 * digits


def rows(chat, count=8):
    questions = [f"{a}+{a + 1}=?" for a in range(count)]
    prompts = [[{"role": "user", "content": question}] for question in questions] if chat else questions
    return Dataset.from_dict({"prompt": prompts, "solution": [str(2 * a + 1) for a in range(count)], "level": list(range(count))})


class Kept:
    """A reward function that keeps what it was asked and what it answered."""

    def __init__(self, function):
        self.function, self.calls = function, []
        self.__name__ = function.__name__

    def keep(self, prompts, completions, columns, values):
        self.calls.append({"prompts": prompts, "completions": completions, "solution": columns["solution"], "values": values})
        return values

    def __call__(self, prompts, completions, **columns):
        return self.keep(prompts, completions, columns, self.function(prompts, completions, **columns))


class KeptAsync(Kept):
    async def __call__(self, prompts, completions, **columns):
        return self.keep(prompts, completions, columns, await self.function(prompts, completions, **columns))


def text(completion):
    return completion if isinstance(completion, str) else completion[-1]["content"]


def own(reward, call):
    """Plaudit's own numbers, None where it has none."""
    batch = Batch(call["prompts"], [text(one) for one in call["completions"]], references=call["solution"])
    scores = reward.score(batch)
    return [
        value if status == Status.OK else None
        for value, status in zip(scores.values.tolist(), scores.status.tolist(), strict=True)
    ]


def mean(values):
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def grpo(chat, asynchronous, embedded=False):
    from trl import GRPOConfig, GRPOTrainer

    if embedded:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from plaudit.engines.default_model import default_model_folder

        model = AutoModelForCausalLM.from_pretrained(default_model_folder())
        model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights="gaussian"))
        tokenizer = AutoTokenizer.from_pretrained(default_model_folder())
    else:
        model, tokenizer = model_and_tokenizer(chat)
    kind = KeptAsync if asynchronous else Kept
    kept = kind(trl_reward(composition(), asynchronous=asynchronous, name="composed"))
    before = [weight.detach().clone() for weight in model.parameters()]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            folder, max_steps=5, per_device_train_batch_size=4 if embedded else 8, num_generations=4,
            max_completion_length=8, logging_steps=1,
            report_to=[], save_strategy="no", use_cpu=True, seed=3, learning_rate=1e-3 if embedded else 1e-2, beta=0.0,
            gradient_checkpointing=False, bf16=False,
        )  # fmt: skip
        trainer = GRPOTrainer(model, kept, args=config, train_dataset=rows(chat), processing_class=tokenizer)
        trainer.train()
        logs = [log for log in trainer.state.log_history if "reward" in log]
        extra = {name: list(values) for name, values in trainer._logs["extra"].items()}
    reward = composition()
    return {
        "steps": len(logs),
        "answered": [call["values"] for call in kept.calls],
        "own": [own(reward, call) for call in kept.calls],
        "logged": [log["rewards/composed/mean"] for log in logs],
        "own_means": [mean(own(reward, call)) for call in kept.calls],
        "unjudged": [log["composed/rows_invalid"] for log in logs],
        "status": extra["composed/status"],
        "parts": {name: len(values) for name, values in extra.items()},
        "counts": {status.label: count for status, count in kept.function.plug.counts.items()},
        "moved": sum((new - old).detach().abs().sum().item() for new, old in zip(model.parameters(), before, strict=True)),
    }


def online_dpo(with_judge):
    """One step or two of online DPO; the judge is a rule that likes digits."""
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    model, tokenizer = model_and_tokenizer(True)
    judge = trl_judge(as_reward(lambda response: float(sum(one.isdigit() for one in response)), name="digits", settings={}))
    asked = []
    if with_judge:
        inner = judge.judge

        def told(prompts, completions, shuffle_order=True):
            ranks = inner(prompts, completions, shuffle_order)
            asked.extend((list(pair), rank) for pair, rank in zip(completions, ranks, strict=True))
            return ranks

        judge.judge = told
        rewarding = {"judge": judge}
    else:

        def reward(prompts, completions, **columns):
            values = judge(prompts, completions, **columns)
            half = len(values) // 2
            asked.extend(
                ([text(completions[row]), text(completions[row + half])], int(values[row] < values[row + half]))
                for row in range(half)
            )
            return values

        rewarding = {"reward_funcs": reward}
    with tempfile.TemporaryDirectory() as folder:
        config = OnlineDPOConfig(
            folder, max_steps=2, per_device_train_batch_size=4, max_new_tokens=8, max_length=64, logging_steps=1, report_to=[],
            save_strategy="no", use_cpu=True, seed=3, bf16=False, gradient_checkpointing=False,
        )  # fmt: skip
        data = rows(True).remove_columns(["solution", "level"])
        OnlineDPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, **rewarding).train()
    digits = [[sum(one.isdigit() for one in text) for text in pair] for pair, _ in asked]
    return {"digits": digits, "ranks": [rank for _, rank in asked], "counts": sum(judge.plug.counts.values())}


RUNS = {
    "grpo": lambda: grpo(chat=False, asynchronous=False),
    "grpo_chat_async": lambda: grpo(chat=True, asynchronous=True),
    "grpo_embedded": lambda: grpo(chat=True, asynchronous=False, embedded=True),
    "online": lambda: online_dpo(with_judge=False),
    "online_judge": lambda: online_dpo(with_judge=True),
}

if __name__ == "__main__":
    torch.manual_seed(0)
    tell({name: RUNS[name]() for name in sys.argv[1:]})
