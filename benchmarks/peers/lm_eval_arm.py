"""lm-eval's Hugging Face backend: log-likelihoods of continuations, on the tokens that the other arms get too.

One line of JSON in: rows, continuation (tokens at the end of each row), batch. One line out: seconds, log_probs, peak_mb.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.common import timed


def main() -> None:
    """Serve until the input ends."""
    import torch
    from lm_eval.models.huggingface import HFLM

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    given = parser.parse_args()
    torch.set_num_threads(2)
    model = HFLM(pretrained=given.model, device="cpu", dtype="float32", batch_size=8)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        length = message["continuation"]
        model.batch_size_per_gpu = message["batch"]
        requests = [(("", str(number)), row[:-length], row[-length:]) for number, row in enumerate(message["rows"])]
        answers, taken = timed(lambda requests=requests: model._loglikelihood_tokens(requests, disable_tqdm=True))
        values = [value for value, _ in answers]
        print(json.dumps({"seconds": taken.seconds, "peak_mb": taken.peak_mb, "log_probs": values}), flush=True)


if __name__ == "__main__":
    main()
