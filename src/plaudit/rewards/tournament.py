"""From pairs to one number a row: round robin, Bradley-Terry fit, knock-out."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from plaudit.types import Batch, Context, Preferences, Scores, Status, Verdict, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.rewards.base import BaseReward


def round_robin(preferences: Preferences, groups: Tensor) -> Scores:
    """Mean win probability of each row over the pairs that it is in, weighted by `preferences.weight`.

    groups: [B]. Pairs without a probability are left out of a row's mean; part `compared` counts the pairs that were used.
    A row with no usable pair takes the status of its first pair, or EMPTY_GROUP if it has none.
    Raises ValueError if a pair joins rows of two groups.
    """
    import torch

    first, second = preferences.first, preferences.second
    if bool((groups[first] != groups[second]).any()):
        raise ValueError("a pair joins rows of two groups")
    size = len(groups)
    weight = torch.ones(len(first)) if preferences.weight is None else preferences.weight
    weight = torch.where(preferences.ok, weight, 0.0).double()
    prob = torch.where(preferences.ok, preferences.prob, 0.0).double()
    zero = torch.zeros(size, dtype=torch.float64)
    wins = zero.index_add(0, first, weight * prob).index_add(0, second, weight * (1 - prob))
    total = zero.index_add(0, first, weight).index_add(0, second, weight)
    compared = zero.index_add(0, first, (weight > 0).double()).index_add(0, second, (weight > 0).double())
    status = torch.full((size,), int(Status.EMPTY_GROUP), dtype=torch.int8)
    for pair in reversed(torch.nonzero(~preferences.ok).flatten().tolist()):  # reversed: a row's first pair has the last word
        status[first[pair]] = status[second[pair]] = preferences.status[pair]
    status[total > 0] = Status.OK
    values = torch.where(total > 0, wins / total.clamp_min(1e-300), torch.nan)
    return Scores(values, status, {"compared": compared.float()}, verdicts=_row_verdicts(preferences, groups))


def _row_verdicts(preferences: Preferences, groups: Tensor) -> list[list[Verdict]] | None:
    """What was said about each pair, told from the side of each of its rows: value is P(this row beats the other)."""
    if preferences.verdicts is None:
        return None
    place: list[int] = []
    seen: dict[int, int] = {}
    for group in groups.tolist():
        seen[group] = seen.get(group, -1) + 1
        place.append(seen[group])
    told: list[list[Verdict]] = [[] for _ in place]
    pairs = zip(preferences.first.tolist(), preferences.second.tolist(), preferences.verdicts, strict=True)
    for first, second, verdicts in pairs:
        for verdict in verdicts:
            told[first].append(replace(verdict, name=_against(place[second], verdict.name)))
            value = None if verdict.value is None else 1.0 - verdict.value
            order = None if verdict.order is None else tuple(1 - side for side in verdict.order)
            told[second].append(replace(verdict, name=_against(place[first], verdict.name), value=value, order=order))
    return told


def _against(place: int, name: str) -> str:
    return f"against {place}" + (f"/{name}" if name else "")


def bradley_terry_fit(preferences: Preferences, n_rows: int, prior: float = 0.01) -> Scores:
    """Strengths of the rows (log-odds scale) that explain the pairs best; P(i beats j) = sigmoid(strength_i - strength_j).

    Maximum a posteriori under a Gaussian prior of precision `prior` on each strength, which keeps them finite when one side
    won everything; 0 is maximum likelihood. Rows that no chain of pairs connects are fitted apart, each set with mean 0.
    Values are the strengths, spread their standard deviation in the Laplace approximation. A row without a usable pair has
    EMPTY_GROUP. Raises ValueError if prior is 0 and no finite maximum exists (Ford 1957: some rows never lost to the others).
    """
    import torch
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if prior < 0:
        raise ValueError(f"the prior's precision must not be negative, it is {prior}")
    weight = torch.ones(len(preferences)) if preferences.weight is None else preferences.weight
    use = preferences.ok & (weight > 0) & (preferences.first != preferences.second)
    first, second = preferences.first[use], preferences.second[use]
    prob, weight = preferences.prob[use].double(), weight[use].double()
    graph = coo_matrix((weight.numpy(), (first.numpy(), second.numpy())), shape=(n_rows, n_rows))
    component = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    values, spread = (torch.full((n_rows,), torch.nan, dtype=torch.float64) for _ in range(2))
    for label in torch.unique(component[first]).tolist():
        rows = torch.nonzero(component == label).flatten()
        inside = component[first] == label
        place = torch.zeros(n_rows, dtype=torch.int64)
        place[rows] = torch.arange(len(rows))
        edges = place[first[inside]], place[second[inside]], prob[inside], weight[inside]
        values[rows], spread[rows] = _fit_component(*edges, len(rows), prior)
    status = torch.full((n_rows,), int(Status.EMPTY_GROUP), dtype=torch.int8)
    status[torch.isfinite(values)] = Status.OK
    return Scores(values, status, spread=spread.float())


def _fit_component(first: Tensor, second: Tensor, prob: Tensor, weight: Tensor, size: int, prior: float) -> tuple[Tensor, Tensor]:
    """Newton's method with step halving on the concave log posterior, in float64: (strengths, standard deviations)."""
    import torch
    from torch.nn.functional import logsigmoid

    if prior == 0:
        _require_finite_maximum(first, second, prob, size)
    centre = torch.full((size, size), 1.0 / size, dtype=torch.float64)
    strength = torch.zeros(size, dtype=torch.float64)

    def cost(at: Tensor) -> Tensor:
        gap = at[first] - at[second]
        return -(weight * (prob * logsigmoid(gap) + (1 - prob) * logsigmoid(-gap))).sum() + 0.5 * prior * at.square().sum()

    def curvature(at: Tensor) -> Tensor:
        chance = torch.sigmoid(at[first] - at[second])
        mass = weight * chance * (1 - chance)
        hessian = prior * torch.eye(size, dtype=torch.float64)
        for row, column, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            hessian = hessian.index_put((row, column), sign * mass, accumulate=True)
        return hessian + centre  # pins the mean, along which the likelihood is flat

    for _ in range(200):
        pull = weight * (torch.sigmoid(strength[first] - strength[second]) - prob)
        gradient = (prior * strength).index_add(0, first, pull).index_add(0, second, -pull)
        step = torch.linalg.solve(curvature(strength), gradient)
        if float(step.abs().max()) < 1e-12:
            break
        length = 1.0
        while length > 1e-8 and float(cost(strength - length * step)) > float(cost(strength)):
            length /= 2
        strength = strength - length * step
        strength = strength - strength.mean()
        if float(step.abs().max()) * length < 1e-10:
            break
    covariance = torch.linalg.inv(curvature(strength)) - centre
    inner = torch.eye(size, dtype=torch.float64) - centre
    return strength, (inner @ covariance @ inner).diagonal().clamp_min(0).sqrt()


def _require_finite_maximum(first: Tensor, second: Tensor, prob: Tensor, size: int) -> None:
    """Everybody must have won something, directly or through others, against everybody (strongly connected wins)."""
    import torch
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    won, lost = prob > 0, prob < 1
    rows = torch.cat([first[won], second[lost]]).numpy()
    columns = torch.cat([second[won], first[lost]]).numpy()
    graph = coo_matrix(([1.0] * len(rows), (rows, columns)), shape=(size, size))
    if connected_components(graph, directed=True, connection="strong")[0] > 1:
        raise ValueError("some rows never lost to the others, so the maximum likelihood is infinite: give a prior > 0")


def group_seed(seed: int, batch: Batch, rows: list[int], salt: str) -> int:
    """A seed for one group from its content, so that it does not depend on which other groups are in the batch."""
    responses = batch.responses
    shown = [responses[row] for row in rows if isinstance(responses[row], str)] if responses is not None else []
    return int(content_key(salt, seed, [prompt_text(batch.prompts[row]) for row in rows], shown), 16)


def knockout(reward: BaseReward, batch: Batch, ctx: Context | None = None) -> Scores:
    """Single elimination in each group: n - 1 comparisons instead of n (n - 1) / 2; only the winner is well determined.

    values: rounds survived, a bye included; the winner of n rows survives ceil(log2 n). Part `compared`: comparisons that a
    row took part in. The draw comes from `ctx.seed` and the group's content; a tie goes to the row drawn earlier. A match
    that cannot be judged ends the run of both rows, which take its status; the next opponent has a bye.
    A group of one row has EMPTY_GROUP. Raises ValueError if the batch has no groups.
    """
    import torch

    if batch.groups is None:
        raise ValueError("a knock-out is played within groups: give groups")
    status = torch.zeros(len(batch), dtype=torch.int8)
    survived, compared = torch.zeros(len(batch)), torch.zeros(len(batch))
    brackets: list[list[int | None]] = []
    for rows in batch.group_rows():
        if len(rows) == 1:
            status[rows[0]] = Status.EMPTY_GROUP
        else:
            brackets.append(_draw(rows, group_seed((ctx or Context()).seed, batch, rows, "knockout")))
    while brackets:
        matches = [pair for slots in brackets for pair in zip(slots[::2], slots[1::2], strict=True)]
        played = [(one, two) for one, two in matches if one is not None and two is not None]
        first, second = (torch.tensor([pair[side] for pair in played], dtype=torch.int64) for side in (0, 1))
        answers: list[tuple[float, int]] = []
        if played:
            judged = reward.compare(batch, first, second, ctx)
            answers = list(zip(judged.prob.tolist(), judged.status.tolist(), strict=True))
            compared = compared.index_add(0, torch.cat([first, second]), torch.ones(2 * len(played)))
        outcome = dict(zip(played, answers, strict=True))
        following = []
        for slots in brackets:
            ahead = [_advance(one, two, outcome, status) for one, two in zip(slots[::2], slots[1::2], strict=True)]
            survived[[row for row in ahead if row is not None]] += 1
            following.append(ahead)
        brackets = [slots for slots in following if len(slots) > 1]
    return Scores(survived, status, {"compared": compared})


def _draw(rows: list[int], seed: int) -> list[int | None]:
    """Slots of the first round: a power of two, the missing opponents (None) spread over the rows drawn first."""
    drawn = list(rows)
    random.Random(seed).shuffle(drawn)
    byes = (1 << (len(rows) - 1).bit_length()) - len(rows)
    slots: list[int | None] = []
    for row in drawn[:byes]:
        slots += [row, None]
    return slots + drawn[byes:]


def _advance(one: int | None, two: int | None, outcome: dict[tuple[int, int], tuple[float, int]], status: Tensor) -> int | None:
    if one is None or two is None:
        return two if one is None else one
    prob, code = outcome[one, two]
    if code != Status.OK:
        status[one] = status[two] = code
        return None
    return one if prob >= 0.5 else two
