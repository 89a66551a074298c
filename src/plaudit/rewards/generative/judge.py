"""`Judge`: a reward that asks a language model. It is an engine and a contract, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plaudit.rewards.base import BaseReward, Native
from plaudit.rewards.features import Features
from plaudit.rewards.generative.asking import Question, Reading, ask
from plaudit.rewards.generative.contract import Contract, Criterion, TextReadout
from plaudit.rewards.generative.criteria import combine_criteria
from plaudit.rewards.generative.library import load_contract
from plaudit.rewards.generative.listwise import listed_scores, listings
from plaudit.rewards.generative.questions import question_of
from plaudit.rewards.generative.states import verdict_states
from plaudit.types import Batch, Context, Engine, Preferences, Request, Sampling, Scores, SpecError, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

ORDERS = ((0, 1), (1, 0))
"""Both ways to show a pair. Every pair is judged in both: no placement is ever drawn by chance."""

Asked = tuple[tuple[int, ...], Criterion | None]
"""The rows to show, one or two in the order in which they are shown, and the criterion to ask about."""


class Judge(BaseReward):
    """A language model as judge.

    contract: a Contract, or what `load_contract` takes: a built-in name or a YAML file. sampling: how text contracts
    generate, by default as the contract says; at a temperature above 0 its seed plus `ctx.seed` is the only randomness.
    Probability contracts draw nothing. batch_size: rows given to the engine at once, None for what the engine wants.
    Pointwise contracts score, pairwise ones compare, listwise ones score a group in one question (shown in an order that
    `ctx.seed` decides); the other ways follow from `BaseReward`.

    Raises SpecError if the contract cannot be used, or if sampling is given to a contract that generates nothing.
    """

    def __init__(
        self,
        engine: Engine,
        contract: Contract | str,
        *,
        name: str | None = None,
        sampling: Sampling | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.engine = engine
        self.contract = contract if isinstance(contract, Contract) else load_contract(contract)
        if sampling is not None and not isinstance(self.contract.readout, TextReadout):
            raise SpecError(f"contract '{self.contract.name}' reads probabilities and generates nothing: it takes no sampling")
        if self.contract.kind == "itemised":
            raise SpecError(f"contract '{self.contract.name}' judges a response against a list of items: use NuggetJudge")
        self.name = name or self.contract.name
        self.sampling = sampling or (self.contract.readout.sampling if isinstance(self.contract.readout, TextReadout) else None)
        self.samples = self.sampling is not None and self.sampling.temperature > 0
        self.uses_seed = self.samples or self.contract.kind == "listwise"
        self.batch_size = engine.rows_at_once if batch_size is None else batch_size

    @property
    def native(self) -> Native:
        """Pointwise contracts score, pairwise contracts compare; a rubric that drops criteria for a group needs the group."""
        if self.contract.kind == "pairwise":
            return "compare"
        if self.contract.kind == "listwise":
            return "score_group"
        return "score_group" if self.contract.criteria and self.contract.on_missing == "drop_for_group" else "score"

    def fingerprint(self) -> str:
        """Engine version, contract content and sampling, hashed. Imports no torch and loads no weights."""
        how = self.sampling and [
            self.sampling.max_tokens, self.sampling.temperature, self.sampling.top_p, self.sampling.stop, self.sampling.seed
        ]  # fmt: skip
        return content_key("judge", self.engine.version, self.contract.content(), how)

    def check(self) -> None:
        """Raise EngineError if the engine cannot be used."""
        self.engine.check()

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """Expected value of the contract's labels for each row; a rubric's parts are its criteria.

        Statuses: MISSING_REFERENCE where the contract needs one; NOT_APPLICABLE where a row has no text; UNPARSABLE,
        ABSTAINED, NOT_A_NUMBER from the reading; and whatever the engine says of a row.
        """
        if self.contract.kind != "pointwise":
            return super().score(batch, ctx)
        import torch

        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(batch))
        criteria: Sequence[Criterion | None] = self.contract.criteria or (None,)
        wanted: list[Asked] = [((row,), criterion) for row in range(len(batch)) for criterion in criteria]
        readings = self._ask(self._questions(batch, wanted), ctx)
        rows = [readings[start : start + len(criteria)] for start in range(0, len(readings), len(criteria))]
        if self.contract.criteria:
            return combine_criteria(rows, self.contract.criteria, self.contract.on_missing, batch)
        only = [row[0] for row in rows]
        spread = _column([reading.spread for reading in only]) if any(reading.spread is not None for reading in only) else None
        return Scores(
            _column([reading.value for reading in only]),
            torch.tensor([int(reading.status) for reading in only], dtype=torch.int8),
            spread=spread,
            verdicts=[[reading.verdict()] for reading in only],
        )

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """Listwise contracts: the numbers of each group's one question, a reward call a row.

        Others as `score`: a judge sees one row at a time, and only a rubric's policy for missing criteria looks at the group.
        """
        if self.contract.kind != "listwise":
            return super().score_group(batch, ctx) if self.native == "compare" else self.score(batch, ctx)
        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(batch))
        shown = listings(self.contract, batch, self.engine.control_strings, ctx.seed)
        return listed_scores(shown, self._ask([listing.question for listing in shown], ctx), batch)

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """P(first beats second), the mean of both orders of showing the pair, each kept as a verdict with its own probability.

        prob(i, j) + prob(j, i) is exactly 1. If one order has no verdict, the pair has none: half of the evidence is not
        evidence of a symmetric judge.
        """
        if self.native != "compare":
            return super().compare(batch, first, second, ctx)
        import torch

        ctx = ctx or Context()
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        ctx.budget.spend(reward_calls=len(pairs))
        wanted: list[Asked] = [((pair[order[0]], pair[order[1]]), None) for pair in pairs for order in ORDERS]
        readings = self._ask(self._questions(batch, wanted), ctx)
        results = [_symmetrised(readings[start], readings[start + 1]) for start in range(0, len(readings), 2)]
        ties = [tie for _, _, tie in results]
        return Preferences(
            first,
            second,
            _column([prob for prob, _, _ in results]),
            status=torch.tensor([int(status) for _, status, _ in results], dtype=torch.int8),
            tie=_column(ties) if any(tie is not None for tie in ties) else None,
            verdicts=[_order_verdicts(*readings[start : start + 2]) for start in range(0, len(readings), 2)],
        )

    def features(self, batch: Batch) -> Tensor:
        """[B, d] float32 the model's state where the verdict stands (a rubric's states side by side); NaN where there is none."""
        return self.read_features(batch).vectors

    def read_features(self, batch: Batch) -> Features:
        """Features with a status each: the state from which a probability contract reads its labels, and for a contract that
        writes, the state at the last token of its answer, which the verdict ends.

        Raises SpecError for a pairwise contract, whose states belong to pairs, not to rows.
        """
        if self.contract.kind != "pointwise":
            several = {"pairwise": "pairs"}.get(self.contract.kind, "groups")
            name, kind = self.contract.name, self.contract.kind
            raise SpecError(f"contract '{name}' is {kind}: its states belong to {several}, so a row has no features")
        wanted: list[Asked] = [
            ((row,), criterion) for row in range(len(batch)) for criterion in self.contract.criteria or (None,)
        ]
        return verdict_states(self.engine, self.contract, self._questions(batch, wanted), len(batch), self._sampling(Context()))

    def requests(self, batch: Batch, row: int = 0, rival: int | None = None) -> list[Request]:
        """The requests that judging a row (against its rival, for pairs) sends: one per criterion, or one per order.

        A listwise contract sends one for the row's whole group, in the order of seed 0.
        Raises ValueError, with the reason, if the row cannot be asked about.
        """
        if self.contract.kind == "pairwise":
            if rival is None:
                raise ValueError(f"contract '{self.contract.name}' is pairwise: give the rival's row number too")
            wanted: list[Asked] = [((row, rival), None), ((rival, row), None)]
        else:
            wanted = [((row,), criterion) for criterion in self.contract.criteria or (None,)]
        if self.contract.kind == "listwise":
            shown = listings(self.contract, batch, self.engine.control_strings, 0)
            questions = [listing.question for listing in shown if row in listing.rows]
        else:
            questions = self._questions(batch, wanted)
        for question in questions:
            if question.request is None:
                raise ValueError(f"row {row} is not asked about: {question.detail}")
        return [question.request for question in questions if question.request is not None]

    def render(self, batch: Batch, row: int = 0, rival: int | None = None) -> list[str]:
        """The exact texts that the engine's model sees for `requests(batch, row, rival)`.

        An engine that cannot show its chat template gives the messages as `role: content` blocks.
        """
        texts = []
        for request in self.requests(batch, row, rival):
            try:
                texts.append(self.engine.render(request))
            except NotImplementedError:
                blocks = [request.messages] if isinstance(request.messages, str) else _blocks(request)
                texts.append("\n\n".join(blocks) + (f"\n\nassistant: {request.prefix}" if request.prefix else ""))
        return texts

    def _sampling(self, ctx: Context) -> Sampling | None:
        if self.sampling is not None and self.samples:
            return replace(self.sampling, seed=self.sampling.seed + ctx.seed)
        return self.sampling

    def _ask(self, questions: Sequence[Question], ctx: Context) -> list[Reading]:
        return ask(self.engine, self.contract, self._sampling(ctx), questions, ctx.budget)

    def _questions(self, batch: Batch, wanted: Sequence[Asked]) -> list[Question]:
        control = self.engine.control_strings
        return [question_of(self.contract, batch, rows, control, criterion) for rows, criterion in wanted]


def _blocks(request: Request) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in request.messages if not isinstance(message, str)]


def _column(values: Sequence[float | None]) -> Tensor:
    import torch

    return torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float32)


def _symmetrised(shown: Reading, swapped: Reading) -> tuple[float | None, Status, float | None]:
    """(P(first wins), status, P(tie)) from the two orders.

    Half the difference is rounded to 24 binary places: then 0.5 + d and 0.5 - d are both exact in float32, and add up to 1.
    """
    for reading in (shown, swapped):
        if reading.status is not Status.OK:
            return None, reading.status, None
    assert shown.value is not None
    assert swapped.value is not None
    lean = round((shown.value - swapped.value) / 2 * 2**24) / 2**24
    ties = [reading.tie for reading in (shown, swapped) if reading.tie is not None]
    return 0.5 + lean, Status.OK, sum(ties) / 2 if len(ties) == 2 else None


def _order_verdicts(shown: Reading, swapped: Reading) -> list[Any]:
    back = None if swapped.value is None else 1 - swapped.value
    return [shown.verdict(order=ORDERS[0]), swapped.verdict(order=ORDERS[1], value=back)]
