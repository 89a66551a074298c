"""`Panel`: several different judges asked the same, weighed by what Dawid and Skene's model makes of their errors.

A plain mean of judges is `rewards.algebra.Ensemble`. A panel is fitted on what its members say about some rows or pairs, without
any label, and then reads new ones: good judges outweigh poor ones, and one who says the opposite is turned round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plaudit.judging.metrics import TIE_MARGIN
from plaudit.rewards.base import BaseReward, Native
from plaudit.rewards.composition_parts import as_parts
from plaudit.trust.dawid_skene import MISSING, DawidSkene, dawid_skene
from plaudit.types import Batch, Context, Preferences, Reward, Scores, SpecError, Status, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

OUTCOMES = (0.0, 0.5, 1.0)
"""Classes of a pair: the second wins, tie, the first wins. Swapping the pair turns their order round."""


class Panel(BaseReward):
    """Members that all score or all compare. classes: the values that a score may be read as, lowest first (0 and 1 for a
    check; 1 to 5 for stars): each member's score counts as the nearest. Pairs have the classes lost, tie and won.

    value: the expected class under the posterior; prob of a pair likewise, so prob(i, j) + prob(j, i) is 1. spread: its standard
    deviation. A member without a number does not vote; where none votes, the row takes the first member's status.
    Raises SpecError for members of different kinds, and where it is asked before `fit`.
    """

    name = "panel"

    def __init__(
        self, members: Sequence[Reward] | Mapping[str, Reward], *, classes: Sequence[float] = (0.0, 1.0), name: str | None = None
    ) -> None:
        self.members: dict[str, Any] = dict(as_parts(members))
        kinds: set[Native] = {member.native for member in self.members.values()}
        if len(kinds) != 1 or kinds == {"score_group"}:
            raise SpecError(f"the members of a panel all score or all compare; these {', '.join(sorted(kinds))}")
        if len(classes) < 2 or list(classes) != sorted(set(classes)):
            raise SpecError(f"classes are two or more values, lowest first, not {list(classes)}")
        self._native: Native = kinds.pop()
        self.classes = OUTCOMES if self._native == "compare" else tuple(map(float, classes))
        self.name = name or f"panel of {len(self.members)}"
        self.uses_seed = any(getattr(member, "uses_seed", True) for member in self.members.values())
        self.batch_size = min(member.batch_size for member in self.members.values())
        self.model: DawidSkene | None = None

    @property
    def native(self) -> Native:
        """As the members."""
        return self._native

    def fingerprint(self) -> str:
        """The members', the classes and the fitted model."""
        fitted = None if self.model is None else [self.model.prior.tolist(), self.model.confusion.tolist()]
        return content_key("panel", [member.fingerprint() for member in self.members.values()], list(self.classes), fitted)

    def check(self) -> None:
        """Raise what a member raises."""
        for member in self.members.values():
            member.check()

    def fit(
        self, batch: Batch, first: Tensor | None = None, second: Tensor | None = None, ctx: Context | None = None
    ) -> DawidSkene:
        """Ask all members about rows (or about pairs, for members that compare), and fit the model on their votes.

        Raises ValueError where no member has a number for anything.
        """
        import torch

        if self.native == "compare":
            if first is None or second is None:
                raise SpecError("members that compare are fitted on pairs: give first and second")
            votes, _, _ = self._pair_votes(batch, first, second, ctx)
        else:
            votes, _, _ = self._row_votes(batch, ctx)
        swap = tuple(reversed(range(len(self.classes)))) if self.native == "compare" else None
        self.model = dawid_skene(torch.as_tensor(votes).numpy(), len(self.classes), swap=swap)
        return self.model

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] expected class."""
        if self.native != "score":
            return super().score(batch, ctx)
        votes, status, verdicts = self._row_votes(batch, ctx)
        mean, spread = self._read(votes)
        return Scores(mean, status, spread=spread, verdicts=verdicts)

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] expected outcome; tie: the posterior of a tie."""
        if self.native != "compare":
            return super().compare(batch, first, second, ctx)
        import torch

        votes, status, verdicts = self._pair_votes(batch, first, second, ctx)
        mean, _ = self._read(votes)
        tie = torch.as_tensor(self._model().read(votes.numpy())[:, 1], dtype=torch.float32)
        return Preferences(first, second, mean.clamp(0, 1), status=status, tie=tie, verdicts=verdicts)

    def _model(self) -> DawidSkene:
        if self.model is None:
            raise SpecError(f"'{self.name}' is not fitted: fit it on what its members say about some rows first")
        return self.model

    def _read(self, votes: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        shares = torch.as_tensor(self._model().read(votes.numpy()))
        values = torch.tensor(self.classes, dtype=torch.float64)
        mean = shares @ values
        return mean, (shares @ values.square() - mean.square()).clamp_min(0).sqrt()

    def _row_votes(self, batch: Batch, ctx: Context | None) -> tuple[Tensor, Tensor, list[list[Verdict]]]:
        import torch

        told = [member.score(batch, ctx) for member in self.members.values()]
        return self._votes(torch.stack([one.values for one in told], 1), torch.stack([one.status for one in told], 1))

    def _pair_votes(
        self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None
    ) -> tuple[Tensor, Tensor, list[list[Verdict]]]:
        import torch

        told = [member.compare(batch, first, second, ctx) for member in self.members.values()]
        probs = torch.stack([one.prob for one in told], 1)
        tied = (probs - 0.5).abs() <= TIE_MARGIN
        outcomes = torch.where(tied, 0.5, (probs > 0.5).to(probs.dtype))
        outcomes = torch.where(probs.isnan(), torch.nan, outcomes)
        return self._votes(outcomes, torch.stack([one.status for one in told], 1))

    def _votes(self, values: Tensor, status: Tensor) -> tuple[Tensor, Tensor, list[list[Verdict]]]:
        """([N, J] class numbers, [N] status, verdicts) of [N, J] numbers."""
        import torch

        classes = torch.tensor(self.classes, dtype=torch.float64)
        nearest = (values.double()[:, :, None] - classes).abs().argmin(dim=2)
        ok = status == int(Status.OK)
        outcome = torch.where(ok.any(dim=1), int(Status.OK), status[:, 0]).to(torch.int8)
        names = list(self.members)
        verdicts = [
            [
                Verdict(value=float(value) if code == Status.OK else None, status=Status(code), name=name)
                for value, code, name in zip(line, codes, names, strict=True)
            ]
            for line, codes in zip(values.tolist(), status.tolist(), strict=True)
        ]
        return torch.where(ok, nearest, MISSING), outcome, verdicts
