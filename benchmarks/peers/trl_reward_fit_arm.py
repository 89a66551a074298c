"""TRL's RewardTrainer with a low-rank adapter on pairs of token ids; see `benchmarks/reward_fit.py`."""

from __future__ import annotations

import argparse
import json
import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig

from benchmarks.peers.trl_arm import Clock, TimedReward, settings
from benchmarks.reward_fit import ALPHA, RANK, RATE, set_adapter
from benchmarks.training import head_weights


def main() -> None:
    """The first line of input holds the pairs; each further line asks for a step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(2)
    print(json.dumps({"ready": True}), flush=True)
    rows = json.loads(sys.stdin.readline())
    model = AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=1, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        model.score.weight.copy_(head_weights(model.config.hidden_size))
    adapter = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", lora_dropout=0.0, task_type="SEQ_CLS", modules_to_save=["score"]
    )
    pairs = [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in rows["pairs"]]
    about = {**settings(rows["batch"], given.steps), "learning_rate": RATE}
    trainer = TimedReward(
        model=model, args=RewardConfig(**about, max_length=None), processing_class=tokenizer,
        train_dataset=Dataset.from_list(pairs), peft_config=adapter,
    )  # fmt: skip
    set_adapter(trainer.model)
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    trainer.clock = Clock(trainer.model)
    trainer.add_callback(trainer.clock)
    print(json.dumps({"loaded": True, "trained": trained}), flush=True)
    trainer.train()


if __name__ == "__main__":
    main()
