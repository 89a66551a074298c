"""`FollowUpReward`: an answer is good if a happy reply of the user is likelier than an unhappy one (FLR).

Zhang et al., "Aligning Language Models Using Follow-up Likelihood as Reward Signal", arXiv 2409.13948. No label, no judge's
prompt, and nothing is generated: the reward of an answer r after a context c is, in each category k with its happy follow-ups F+
and unhappy ones F-,

    FLR_k = mean over F+ of l(f) - mean over F- of l(f),        l(f) = 1/m * sum_j log p(f_j | c, r, f_<j)

with f the next user's turn in the model's own chat template, and the reward is the mean over categories. The difference cancels
what makes a sentence likely anywhere. (The released script takes raw logits of the last m positions, one step off: not used.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.follow_ups import SIDES, FollowUps
from plaudit.types import Batch, Context, Engine, Message, Prompt, Request, Scores, SpecError, Status, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["user", "swapped"]
ASK_ME = "Please ask me a question. I will answer it, and then you tell me what you think of my answer."
"""The first turn of a dialogue with swapped roles: it makes the model the one who asks."""
_SENTINEL = "follow-up goes here"


def dialogue(prompt: Prompt, response: Any) -> list[Message] | None:
    """The conversation that ends with the answer: a system message if there is one, then user and assistant in turns.

    A chat whose turns do not begin with the user loses its first turn, as in the released code. None where a turn is not text,
    or the two do not take turns.
    """
    if not isinstance(response, str):
        return None
    if isinstance(prompt, (str, Mapping)):
        turns: list[Message] = [{"role": "user", "content": prompt_text(prompt)}]
    else:
        turns = list(prompt)
    system = turns[:1] if turns and turns[0]["role"] == "system" else []
    turns = [*turns[len(system) :], {"role": "assistant", "content": response}]
    if len(turns) % 2:
        turns = turns[1:]
    fits = all(turn["role"] == ("user", "assistant")[place % 2] for place, turn in enumerate(turns))
    if not turns or not fits or not all(isinstance(turn["content"], str) for turn in turns):
        return None
    return [*system, *turns]


def swapped(turns: Sequence[Message]) -> list[Message]:
    """The same conversation with the model as the one who asks: user and assistant exchanged, after a first turn (`ASK_ME`)."""
    exchange = {"user": "assistant", "assistant": "user"}
    system = [turn for turn in turns if turn["role"] == "system"]
    rest: list[Message] = [
        {"role": exchange[turn["role"]], "content": turn["content"]} for turn in turns if turn["role"] != "system"
    ]
    return [*system, {"role": "user", "content": ASK_ME}, *rest]


def feedback_dialogues(records: Sequence[tuple[str, str, str]]) -> list[list[Message]]:
    """(question, answer, feedback) as dialogues with swapped roles; the last turn, the assistant's, is the feedback.

    A model fitted on the last turns is an ordinary chat model that plays the user; score with `role="swapped"`.
    """
    return [
        [
            *swapped([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]),
            {"role": "assistant", "content": feedback},
        ]
        for question, answer, feedback in records
    ]


def open_turn(engine: Engine, turns: Sequence[Message], role: Role) -> tuple[Request, str]:
    """What comes before a follow-up, and the blanks that belong to its first token.

    A user's turn has no opening of its own in most engines, which open the assistant's. So a conversation with a marked user's
    turn is rendered, and cut where the mark stands: the tokens of a follow-up are then those that it has inside of the template.
    Raises ValueError where the template refuses the turns.
    """
    if role == "swapped":
        return Request(tuple(swapped(turns))), ""
    whole = engine.render(Request((*turns, {"role": "user", "content": _SENTINEL})))
    head = whole[: whole.rindex(_SENTINEL)]
    bare = head.rstrip(" ")  # a blank melts into the first word: it is part of the follow-up's tokens
    return Request(bare), head[len(bare) :]


@dataclass
class FollowUpTable:
    """values: [B, F] mean log-probability per token of each follow-up after each row, NaN where there is none. status: [B]."""

    values: Tensor
    status: Tensor
    sentences: tuple[str, ...]

    def scores(self, bank: FollowUps) -> Scores:
        """The reward by a bank whose sentences are all here. Parts: each category, and the means `positive` and `negative`.

        Raises KeyError for a sentence that was not scored.
        """
        import torch

        place = {text: number for number, text in enumerate(self.sentences)}
        means = {
            side: torch.stack(
                [self.values[:, [place[text] for text in getattr(bank, side)[name]]].mean(dim=1) for name in bank.categories],
                dim=1,
            )
            for side in SIDES
        }
        each = means["positive"] - means["negative"]
        parts = {name: each[:, column].float() for column, name in enumerate(bank.categories)}
        parts |= {side: means[side].mean(dim=1).float() for side in SIDES}
        return Scores(each.mean(dim=1), self.status, parts)


class FollowUpReward(BaseReward):
    """Follow-up likelihood as reward; the engine's model plays the user.

    bank: None for plaudit's own. categories: some of them. role: "user", the follow-up is the next user's turn; "swapped", for a
    model fitted on feedback (`feedback_dialogues`), the model is the one who asks, and the follow-up its next turn.
    rows_at_once: rows given to the engine in one call; what they share is computed once.

    An empty answer is judged like any other. A conversation too long for the model loses its oldest exchanges, never the end of
    the answer. Control tokens in judged texts are broken, so that no answer can write the user's reply itself.
    Statuses: NOT_APPLICABLE where a row is no conversation of texts that ends with an answer, and whatever the engine says of any
    of the row's follow-ups. Scores of different models are not comparable. Where the judged policy is the scorer itself, use a
    frozen copy, or the two raise each other.
    """

    uses_seed = False

    def __init__(
        self,
        engine: Engine,
        bank: FollowUps | None = None,
        *,
        categories: Sequence[str] | None = None,
        role: Role = "user",
        name: str = "follow-up",
        rows_at_once: int = 8,
    ) -> None:
        if role not in get_args(Role):
            raise SpecError(f"role is '{role}', expected user or swapped")
        self.engine, self.role, self.name, self.rows_at_once = engine, role, name, rows_at_once
        self.bank = (bank or FollowUps.default()).only(categories)
        self.settings = {"bank": self.bank.content(), "role": role, "first": ASK_ME if role == "swapped" else ""}

    def fingerprint(self) -> str:
        """Engine version, bank and role, hashed."""
        return content_key(super().fingerprint(), self.engine.version)

    def check(self) -> None:
        """Raise EngineError if the engine cannot be used."""
        self.engine.check()

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] the mean over categories; parts as in `FollowUpTable.scores`."""
        return self.table(batch, ctx).scores(self.bank)

    def table(self, batch: Batch, ctx: Context | None = None) -> FollowUpTable:
        """Every follow-up after every row: what the reward, its ablations and other banks of the same sentences are made of."""
        import torch

        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(batch))
        sentences = tuple(dict.fromkeys(self.bank.sentences))
        responses = batch.require_responses()
        turns = [self._turns(prompt, response) for prompt, response in zip(batch.prompts, responses, strict=True)]
        values = torch.full((len(batch), len(sentences)), torch.nan)
        status = torch.full((len(batch),), int(Status.NOT_APPLICABLE), dtype=torch.int8)
        usable = [row for row, found in enumerate(turns) if found is not None]
        for start in range(0, len(usable), self.rows_at_once):
            pending = {row: turns[row] or [] for row in usable[start : start + self.rows_at_once]}
            while pending:
                found = self._ask(pending, sentences, ctx)
                for row, (numbers, code) in found.items():
                    values[row], status[row] = torch.tensor(numbers), int(code)
                pending = {
                    row: shorter
                    for row, (_, code) in found.items()
                    if code is Status.TOO_LONG and (shorter := without_oldest(pending[row])) is not None
                }
        return FollowUpTable(values, status, sentences)

    def _turns(self, prompt: Prompt, response: Any) -> list[Message] | None:
        from plaudit.engines.control import neutralise

        control = self.engine.control_strings
        found = dialogue(prompt, response)
        return found and [{"role": turn["role"], "content": neutralise(turn["content"], control)[0]} for turn in found]

    def _ask(
        self, rows: Mapping[int, Sequence[Message]], sentences: Sequence[str], ctx: Context
    ) -> dict[int, tuple[list[float], Status]]:
        """Per row the follow-ups' numbers and the row's status."""
        requests: list[Request] = []
        asked: list[str] = []
        found: dict[int, tuple[list[float], Status]] = {}
        opened = []
        for row, turns in rows.items():
            try:
                request, blanks = open_turn(self.engine, turns, self.role)
            except ValueError:  # the template refuses these turns
                found[row] = [float("nan")] * len(sentences), Status.FAILED
                continue
            opened.append(row)
            requests += [request] * len(sentences)
            asked += [blanks + text for text in sentences]
        answer = self.engine.log_probs(requests, asked, budget=ctx.budget)
        for number, row in enumerate(opened):
            places = range(number * len(sentences), (number + 1) * len(sentences))
            bad = [answer.status[place] for place in places if answer.status[place] is not Status.OK]
            means = [float("nan") if bad else float(answer.tokens[place].mean()) for place in places]
            found[row] = means, bad[0] if bad else Status.OK
        return found


def without_oldest(turns: Sequence[Message]) -> list[Message] | None:
    """The conversation without its first exchange; None where only the last one is left."""
    system = 1 if turns and turns[0]["role"] == "system" else 0
    return [*turns[:system], *turns[system + 2 :]] if len(turns) - system > 2 else None
