"""What runs below a process."""

import os
import time
from collections.abc import Callable


def descendants(root: int) -> list[int]:
    """Process ids of everything that a process started, however deep, apart from the dead."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(name)] = int(parent)
    found, last = [], [root]
    while last:
        last = [pid for pid, parent in parents.items() if parent in last]
        found += last
    return found


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Wait for it; whether it came."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
