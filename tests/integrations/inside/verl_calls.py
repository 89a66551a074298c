"""verl's own loader loads a reward file, and its reward managers ask it about real DataProtos."""

import sys
import tempfile

import numpy as np
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop import RewardLoopWorker
from verl.trainer.ppo.reward import get_custom_reward_fn

from plaudit.engines.tiny import character_tokenizer
from tests.integrations.inside import tell

PROMPTS = ["1+1=?", "1+1=?", "3+3=?", "4+4=?"]
ANSWERS = ["2", "The answer is 4", "7", "I am not sure about that"]
TRUTHS = ["2", "2", "6", "8"]


def configuration(path, name):
    return OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {"path": path, "name": name, "reward_kwargs": {}},
                "reward_manager": {"source": "register", "name": "naive", "module": None},
                "reward_model": {"enable": False},
            }
        }
    )


def data(tokenizer, extra=True):
    """A batch as verl's rollout hands it over: left-padded prompts, right-padded responses."""
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROMPTS]
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ANSWERS]
    wide, long = max(map(len, prompts)), max(map(len, answers))
    pad = tokenizer.pad_token_id
    left = torch.tensor([[pad] * (wide - len(one)) + one for one in prompts])
    right = torch.tensor([one + [pad] * (long - len(one)) for one in answers])
    mask = torch.tensor(
        [
            [0] * (wide - len(p)) + [1] * len(p) + [1] * len(a) + [0] * (long - len(a))
            for p, a in zip(prompts, answers, strict=True)
        ]
    )
    batch = TensorDict(
        {"prompts": left, "responses": right, "attention_mask": mask, "input_ids": torch.cat([left, right], 1)}, batch_size=4
    )
    columns = {
        "data_source": np.array(["sums"] * 4, dtype=object),
        "reward_model": np.array([{"style": "rule", "ground_truth": truth} for truth in TRUTHS], dtype=object),
        "extra_info": np.array(
            [{"index": i, "question": p} if extra else {"index": i} for i, p in enumerate(PROMPTS)], dtype=object
        ),
    }
    return DataProto(batch=batch, non_tensor_batch=columns)


def reward_loop(path, name, tokenizer, extra=True):
    """The reward loop's worker, as verl makes and asks it."""
    folder = tempfile.mkdtemp()
    tokenizer.save_pretrained(folder)
    config = configuration(path, name)
    config.actor_rollout_ref = {"model": {"path": folder, "tokenizer_path": None}}
    worker = RewardLoopWorker(config)
    return worker.loop.run_until_complete(worker.compute_score_batch(data(tokenizer, extra)))


def batch_manager(path, name, tokenizer):
    from verl.workers.reward_manager import get_reward_manager_cls

    manager = get_reward_manager_cls("batch")(
        tokenizer, num_examine=0, compute_score=get_custom_reward_fn(configuration(path, name))
    )
    answer = manager(data(tokenizer), return_dict=True)
    return {
        "rewards": answer["reward_tensor"].sum(-1).tolist(),
        "where": [row.nonzero().flatten().tolist() for row in answer["reward_tensor"]],
        "extra": {key: [float(one) for one in values] for key, values in answer["reward_extra_info"].items()},
    }


def naive_manager(path, name, tokenizer):
    from verl.workers.reward_manager import get_reward_manager_cls

    manager = get_reward_manager_cls("naive")(
        tokenizer, num_examine=0, compute_score=get_custom_reward_fn(configuration(path, name))
    )
    return manager(data(tokenizer), return_dict=True)["reward_tensor"].sum(-1).tolist()


def asked(path, kind, tokenizer):
    try:
        if kind == "batch":
            return batch_manager(path, "compute_scores", tokenizer)
        if kind == "naive":
            return naive_manager(path, "compute_score", tokenizer)
        return reward_loop(path, "compute_score_async" if kind == "async" else "compute_score", tokenizer, kind != "bare")
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    tokenizer = character_tokenizer("".join(sorted(set("".join(PROMPTS + ANSWERS)))))
    tell({kind: asked(sys.argv[1], kind, tokenizer) for kind in sys.argv[2:]})
