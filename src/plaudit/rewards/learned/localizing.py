"""`Localizing`: rewards that know people, and learn a new one from a few comparisons with everything else frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from plaudit.rewards.learned.base import Backbone
from plaudit.rewards.learned.data import FitData
from plaudit.types import Batch, UserError

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Localizing(Protocol):
    """Ideal points (PAL) fit the user's weights, variational rewards (VPL) infer the user's latent."""

    @property
    def users(self) -> tuple[str, ...]:
        """The people it knows."""
        ...

    def localize(self, user: str, data: FitData) -> None:
        """Learn one user from pairs that are all theirs; the users column of the data is not read.

        A user who is known already is learned anew, from these pairs alone. Without pairs the user is the average one.
        """
        ...


def user_names(batch: Batch) -> list[str]:
    """[B] the users as text. Raises UserError where the batch has none."""
    if batch.users is None:
        raise UserError("this reward is fitted on people: every row needs a user")
    return [str(user) for user in batch.users]


def pair_users(data: FitData) -> list[str]:
    """[P] whose comparison each pair is. Raises UserError where two different people are compared within a pair."""
    if data.preferences is None:
        raise UserError("this reward is fitted on pairs; the data has only ratings")
    names = user_names(data.batch)
    pairs = zip(data.preferences.first.tolist(), data.preferences.second.tolist(), strict=True)
    found = []
    for first, second in pairs:
        if names[first] != names[second]:
            raise UserError(f"rows {first} and {second} are one comparison of two users, '{names[first]}' and '{names[second]}'")
        found.append(names[first])
    return found


def numbered(names: Sequence[str]) -> tuple[list[str], Tensor]:
    """(different names in the order of their first place, [N] int64 the number of each)."""
    import torch

    known = list(dict.fromkeys(names))
    place = {name: number for number, name in enumerate(known)}
    return known, torch.tensor([place[name] for name in names], dtype=torch.int64)


def usable(data: FitData) -> FitData:
    """Only pairs whose status is OK."""
    if data.preferences is None or bool(data.preferences.ok.all()):
        return data
    return data.select(data.preferences.ok.nonzero()[:, 0])


def backbone_of(given: Backbone | Mapping[str, Any]) -> Backbone:
    """A backbone, or one built from its settings."""
    from plaudit.rewards.learned.catalogue import build_backbone

    return build_backbone(given) if isinstance(given, Mapping) else given
