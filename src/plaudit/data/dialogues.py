r"""Dialogues written as one text with `\n\nHuman:` and `\n\nAssistant:` turns, as in hh-rlhf."""

from __future__ import annotations

import re

from plaudit.data.cells import BadRow
from plaudit.types import Message

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}


def is_dialogue(text: object) -> bool:
    """Whether a text starts with a human turn in this notation."""
    return isinstance(text, str) and re.match(r"\s*Human:", text) is not None


def parse_dialogue(text: str) -> tuple[Message, ...]:
    """All turns, without the white space around them; neighbouring turns of one speaker are joined by a blank line.

    Raises BadRow if the text does not start with a turn.
    """
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise BadRow("the dialogue does not start with a turn", "a text that starts with 'Human:'")
    messages: list[Message] = []
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        turn = text[mark.end() : after.start() if after else len(text)].strip()
        role = _ROLE[mark[1]]
        if messages and messages[-1]["role"] == role:
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n\n{turn}"}
        else:
            messages.append({"role": role, "content": turn})
    return tuple(messages)


def split_dialogues(chosen: str, rejected: str) -> tuple[tuple[Message, ...], str, str, bool]:
    """(shared turns, end of the chosen, end of the rejected, whether either end has several turns).

    The cut is after the last human turn before the two differ, so a chat that asks for an answer is shared. Where more
    than one turn follows it, the end keeps its turns as they are written.
    Raises BadRow if the dialogues share no human turn or have no assistant turn.
    """
    cut, before = -1, ""
    for mark, other in zip(_TURN.finditer(chosen), _TURN.finditer(rejected), strict=False):
        if chosen[: mark.end()] != rejected[: other.end()]:
            break
        if mark[1] == "Assistant" and before == "Human":
            cut = mark.start()
        before = mark[1]
    if cut < 0:
        raise BadRow("chosen and rejected share no turn before an assistant's turn", "two dialogues with the same beginning")
    shared = parse_dialogue(chosen[:cut])
    ends = [dialogue[cut:].split("Assistant:", 1)[1] for dialogue in (chosen, rejected)]
    return shared, ends[0].strip(), ends[1].strip(), any(_TURN.search(end) for end in ends)
