"""A run that says which rows it has handed out, to be killed from outside: python -m tests.judging.killed_run STORE ROWS."""

import sys

from plaudit.data.row import Row
from plaudit.judging import Runner
from plaudit.store import Store
from tests.judging.rewards import Slow


def rows(count):
    return [Row(str(index), f"prompt {index}", ("word " * (index % 7 + 1),)) for index in range(count)]


if __name__ == "__main__":
    for result in Runner(Slow(), Store(sys.argv[1])).run(rows(int(sys.argv[2]))):
        sys.stdout.write(f"{result.row.id}\n")
        sys.stdout.flush()
