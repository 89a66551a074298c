"""Input files, and rewards in files of their own, for tests of judging in parts."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq

REWARDS = '''
import os, time
from pathlib import Path
import torch
from plaudit.rewards.base import BaseReward
from plaudit.types import EngineError, Preferences, Scores, Status

HERE = Path(__file__).parent

class Noted(BaseReward):
    """Length of the response, slowly; notes its process. Abstains on empty responses; its batches show in its numbers."""
    name = "noted"
    uses_seed = False
    batch_size = 8
    pause = 0.0
    settings = {}

    def score(self, batch, ctx=None):
        with (HERE / "processes").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(self.pause)
        if any("deadly" in text for text in batch.responses):
            os._exit(9)
        if any("unplugged" in text for text in batch.responses):
            raise EngineError("the server hung up")
        values = torch.tensor([float(len(text)) + 0.01 * len(batch) for text in batch.responses])
        return Scores(values, torch.tensor([Status.OK if text else Status.ABSTAINED for text in batch.responses]))

class Slow(Noted):
    name = "slow"
    pause = 0.15

class Ranked(BaseReward):
    """Place of a response by length within its row."""
    name = "ranked"
    uses_seed = False
    batch_size = 4
    settings = {}

    def score_group(self, batch, ctx=None):
        values = torch.zeros(len(batch))
        for rows in batch.group_rows():
            for rank, row in enumerate(sorted(rows, key=lambda row: len(batch.responses[row]))):
                values[row] = rank
        return Scores(values)

class Drawn(BaseReward):
    """Prefers by the seed alone."""
    name = "drawn"
    batch_size = 16
    settings = {}

    def compare(self, batch, first, second, ctx=None):
        draw = torch.Generator().manual_seed(ctx.seed)
        return Preferences(first, second, torch.rand(len(first), generator=draw))
'''


def records(count, seed=0, ids=False):
    """Preference rows; some responses are empty; with ids, some twice."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        text = ["" if draw.random() < 0.1 else "x " * draw.randint(1, 20) for _ in range(2)]
        record = {"prompt": f"prompt {index % 50}", "chosen": text[0], "rejected": text[1]}
        made.append(record | ({"id": f"r{index if index % 5 else 0}"} if ids else {}))
    return made


def lines(made):
    """Records as JSON Lines."""
    return "".join(json.dumps(record) + "\n" for record in made).encode()


def folder_of_files(path):
    """A folder with a file of each kind: 30 rows, 0 lines long notes excluded, of several sizes."""
    path.mkdir()
    (path / "a.jsonl").write_bytes(b"\n" + lines(records(30, 1, ids=True)))
    (path / "b.jsonl.gz").write_bytes(gzip.compress(lines(records(37, 2, ids=True))))
    pq.write_table(pa.Table.from_pylist(records(5, 3)), path / "c.parquet")
    pq.write_table(pa.Table.from_pylist(records(61, 4)), path / "d.parquet")
    return path


def write_rewards(folder):
    """The file of the rewards above; `--reward FILE:NAME`."""
    file = folder / "rewards.py"
    file.write_text(REWARDS)
    return file
