"""`RivalsBank`: a pairwise reward gives an absolute score, as the win rate against fixed rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Preferences, Scores, Status, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor


class RivalsBank(BaseReward):
    """Mean P(row beats rival) over the rivals of the row's prompt: comparable between runs, since the rivals stay the same.

    rivals: responses by prompt text (`prompt_text`), or one sequence that serves every prompt. A prompt without rivals has
    NOT_APPLICABLE. If one rival cannot be compared the row takes that status: a mean over the others would be on another
    scale. Part `compared` counts the rivals. Rivals are judged with the row's prompt, reference, user and extras.
    """

    def __init__(self, reward: BaseReward, rivals: Mapping[str, Sequence[Any]] | Sequence[Any]) -> None:
        self.reward, self.rivals = reward, rivals
        self.name = f"{reward.name} against rivals"
        self.batch_size = reward.batch_size
        self.uses_seed = getattr(reward, "uses_seed", True)
        bank = dict(rivals) if isinstance(rivals, Mapping) else list(rivals)
        self.settings = {"rivals": content_key(_plain(bank))}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] mean win probability against the rivals."""
        import torch

        opponents = [self._rivals(prompt_text(prompt)) for prompt in batch.prompts]
        rows = [row for row, rivals in enumerate(opponents) for _ in rivals]
        status = torch.tensor([Status.OK if rivals else Status.NOT_APPLICABLE for rivals in opponents], dtype=torch.int8)
        compared = torch.tensor([float(len(rivals)) for rivals in opponents])
        if not rows:
            return Scores(torch.full((len(batch),), torch.nan), status, {"compared": compared})
        first = torch.tensor(rows, dtype=torch.int64)
        arena, second = _with_rivals(batch, rows, [rival for rivals in opponents for rival in rivals])
        judged = self.reward.compare(arena, first, second, ctx)
        for pair in reversed(torch.nonzero(~judged.ok).flatten().tolist()):
            status[first[pair]] = judged.status[pair]
        wins = torch.zeros(len(batch), dtype=torch.float64).index_add(0, first, judged.prob.double())
        return Scores(wins / compared, status, {"compared": compared}, verdicts=_gathered(judged, len(batch)))

    def _rivals(self, prompt: str) -> Sequence[Any]:
        return self.rivals.get(prompt, ()) if isinstance(self.rivals, Mapping) else self.rivals

    def fingerprint(self) -> str:
        """Class, settings (the rivals) and the reward's fingerprint."""
        return content_key(super().fingerprint(), self.reward.fingerprint())

    def check(self) -> None:
        """Forwarded to the reward."""
        self.reward.check()


def _plain(bank: Any) -> Any:
    """Rivals as JSON-able content: a tensor's repr is shortened, so its numbers are listed instead."""
    if isinstance(bank, Mapping):
        return {key: _plain(value) for key, value in bank.items()}
    if isinstance(bank, list | tuple):
        return [_plain(value) for value in bank]
    return bank.tolist() if hasattr(bank, "tolist") else bank


def _with_rivals(batch: Batch, rows: list[int], rivals: list[Any]) -> tuple[Batch, Tensor]:
    """The batch followed by the rivals' rows, each (prompt, rival) once, and the row of each rival in it.

    Columns that describe one response (lengths, segments, finish, ids) are left out, since rivals have none.
    """
    import torch

    carried = ("prompts", "references", "users")
    place: dict[str, int] = {}
    sources: list[int] = []
    added: list[Any] = []
    second: list[int] = []
    for row, rival in zip(rows, rivals, strict=True):
        shared = {name: _plain(column[row]) for name, column in batch.columns() if name in carried or name.startswith("extras.")}
        key = content_key(_plain(rival), shared)
        if key not in place:
            place[key] = len(batch) + len(added)
            sources.append(row)
            added.append(rival)
        second.append(place[key])
    both = batch.select([*range(len(batch)), *sources])
    own = batch.require_responses()
    responses = torch.cat([own, torch.stack(added)]) if isinstance(own, torch.Tensor) else [*own, *added]
    arena = Batch(both.prompts, responses, both.references, users=both.users, extras=both.extras)
    return arena, torch.tensor(second, dtype=torch.int64)


def _gathered(judged: Preferences, size: int) -> list[list[Any]] | None:
    if judged.verdicts is None:
        return None
    told: list[list[Any]] = [[] for _ in range(size)]
    for row, verdicts in zip(judged.first.tolist(), judged.verdicts, strict=True):
        told[row] += verdicts
    return told
