"""OpenRLHF's own executor loads a reward file and asks it, for each rollout, as it does in a training run."""

import asyncio
import sys
from types import SimpleNamespace

from openrlhf.utils.agent import SingleTurnAgentExecutor

from plaudit.engines.tiny import character_tokenizer
from tests.integrations.inside import tell

ANSWERS = {"1+1=?": "2", "2+2=?": "The answer is 4", "3+3=?": "7", "4+4=?": ""}


class Engine:
    """Stands for vLLM, which alone is missing here: continues a prompt with the answer that is written down."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        await asyncio.sleep(0.01)
        prompt = self.tokenizer.decode(prompt_token_ids)
        tokens = self.tokenizer(text=ANSWERS[prompt], add_special_tokens=False)["input_ids"] + [self.tokenizer.eos_token_id]
        output = SimpleNamespace(token_ids=tokens, text=ANSWERS[prompt], finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


async def rollouts(executor, tokenizer, labels):
    params = SimpleNamespace(max_tokens=16, logprobs=None)
    calls = [
        executor.execute(prompt, label, params, 64, tokenizer, Engine(tokenizer))
        for prompt, label in zip(ANSWERS, labels, strict=True)
    ]
    return await asyncio.gather(*calls)


def plain(tensor):
    return None if tensor is None else tensor.tolist()


def main():
    tokenizer = character_tokenizer("".join(sorted(set("".join([*ANSWERS, *ANSWERS.values()])))))
    tokenizer.add_bos_token = False
    executor = SingleTurnAgentExecutor(sys.argv[1])
    done = asyncio.run(rollouts(executor, tokenizer, ["2", "4", "6", "8"]))
    counts = {status.label: count for status, count in executor.reward_func.plug.counts.items()}
    rows = [
        {
            "reward": plain(one["reward"]),
            "score": plain(one["scores"]),
            "logs": {name: plain(value) for name, value in one["extra_logs"].items()},
        }
        for one in done
    ]
    tell({"rows": rows, "counts": counts})


if __name__ == "__main__":
    main()
