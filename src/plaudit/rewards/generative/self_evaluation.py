"""`SelfEvaluation`: would the model do better if it started over? Read as one token of the model that wrote the response.

Manvi, Singh and Ermon, Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even Mid-Generation
(arXiv 2410.02725), section 2. p = P(this response wins or ties against another sample of the same model), of whole responses and
of their beginnings. A tie counts as won: an easy prompt and a hopeless one both say that starting over does not pay.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from plaudit.engines.lora import LoRA
from plaudit.engines.switched import SwitchedAdapter
from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.generative.contract import Contract, OptionsReadout
from plaudit.rewards.generative.judge import Judge
from plaudit.rewards.scoring import score_counted
from plaudit.types import Batch, Context, Engine, EngineError, Generator, Reward, Sampling, Scores, SpecError, Status
from plaudit.types.joining import join_batches
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.local import LocalEngine
    from plaudit.fitting import FitConfig, TrainResult


def win_or_tie(first: Tensor, second: Tensor, eps: float = 0.01) -> tuple[Tensor, Tensor]:
    """Labels of two samples by their rewards, each [B]: first >= second - eps, and the other way round.

    In a tie (|first - second| <= eps) both are true, at eps = 0 too. Raises ValueError where a reward is no number.
    """
    if bool(first.isnan().any() | second.isnan().any()):
        raise ValueError("a reward is missing: such a pair has no label")
    return first >= second - eps, second >= first - eps


def win_only(first: Tensor, second: Tensor, eps: float = 0.01) -> tuple[Tensor, Tensor]:
    """As `win_or_tie`, but a tie is a loss of both: what a plain Bradley-Terry label would teach."""
    tied_or_won, tied_or_lost = win_or_tie(first, second, eps)
    return ~tied_or_lost, ~tied_or_won


LABELS = {"win_or_tie": win_or_tie, "win_only": win_only}


@dataclass
class SelfEvaluationData:
    """Whole responses and beginnings of them with their labels. share: of the whole response, [B]. left_out: by reason."""

    batch: Batch
    labels: list[float]
    shares: list[float]
    left_out: Counter[str]

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, rows: Sequence[int]) -> SelfEvaluationData:
        """The given rows."""
        return SelfEvaluationData(
            self.batch.select(rows), [self.labels[row] for row in rows], [self.shares[row] for row in rows], self.left_out
        )


def labelled_samples(batch: Batch, values: Scores, *, labels: str = "win_or_tie", eps: float = 0.01) -> SelfEvaluationData:
    """Labels of samples in groups of two or more: the share of the others of its group with a score that a sample is not worse
    than (or that it beats). With two samples that is 0 or 1; with more it has the same mean and less noise.

    A sample without a score is left out; so is a group with fewer than two scored ones. All are counted.
    """
    rows, targets = [], []
    left_out: Counter[str] = Counter()
    usable = values.ok.tolist()
    for group in batch.group_rows():
        scored = [row for row in group if usable[row]]
        left_out["no score"] += len(group) - len(scored)
        if len(scored) < 2:
            left_out["no rival"] += len(scored)
            continue
        worth = values.values[scored].double()
        wins, _ = LABELS[labels](worth[:, None], worth[None, :], eps)
        against = wins.double().sum(dim=1) - wins.diagonal().double()  # nobody is its own rival
        rows += scored
        targets += (against / (len(scored) - 1)).tolist()
    return SelfEvaluationData(batch.select(rows), targets, [1.0] * len(rows), +left_out)


def cut_at(text: str, share: float, engine: Engine | None = None) -> str:
    """The beginning of a text: so much of its tokens, at least one and not all; of its characters, without a local engine."""
    codec: Any = getattr(engine, "codec", None)
    parts: Any = list(text) if codec is None else codec.encode_continuation(text)
    count = min(max(1, round(share * len(parts))), len(parts) - 1)
    return "".join(parts[:count]) if codec is None else str(codec.decode(parts[:count]))


def with_beginnings(data: SelfEvaluationData, cuts: int, seed: int, engine: Engine | None = None) -> SelfEvaluationData:
    """The same rows, and `cuts` beginnings of each with its label, cut at places drawn evenly from the whole length.

    Responses of one token have no beginning.
    """
    draw = random.Random(derive_seed(seed, "cuts"))
    rows, texts, shares = [], [], []
    for row, text in enumerate(data.batch.require_responses()):
        for _ in range(cuts):
            share = draw.random()
            start = cut_at(text, share, engine) if len(text) > 1 else ""
            if start and start != text:
                rows.append(row)
                texts.append(start)
                shares.append(share)
    if not rows:
        return data
    begun = replace(data.batch.select(rows), responses=texts, finish=["truncated"] * len(rows), lengths=None)
    both = join_batches([replace(data.batch, lengths=None), begun])
    labels = [*data.labels, *(data.labels[row] for row in rows)]
    return SelfEvaluationData(both, labels, [*data.shares, *shares], data.left_out)


class SelfEvaluation(Judge):
    """P(win or tie) of a response, or of its beginning, by one token of the model that wrote it.

    engine: the writing model's own (a `LiveEngine` of the generator, or a `LocalEngine` of the same weights). adapter: a low-rank
    adapter that is on for the question only (`SwitchedAdapter`, or a `LoRA` for a fresh one, head included), so that what the
    model writes is unchanged by construction; None asks the model as it is. contract: asks whether the model would do better if
    it started over, with two labels, worth 0 (it would) and 1 (it would not).

    A finished response without any text was not judged to be bad, but is not there: it is ABSTAINED.
    Raises SpecError for other contracts.
    """

    def __init__(
        self,
        engine: Engine,
        adapter: SwitchedAdapter | LoRA | None = None,
        *,
        contract: Contract | str = "self-evaluation",
        name: str = "self-evaluation",
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(engine, contract, name=name, batch_size=batch_size)
        readout = self.contract.readout
        if not isinstance(readout, OptionsReadout) or sorted(label.value for label in readout.labels) != [0.0, 1.0]:
            raise SpecError(f"contract '{self.contract.name}' must read two labels, worth 0 and 1, from the next token")
        if isinstance(adapter, LoRA):
            adapter = SwitchedAdapter(self._local.causal_model, adapter, head=True, seed=seed)
        self.adapter = adapter

    @property
    def _local(self) -> LocalEngine:
        from plaudit.engines.local import LocalEngine

        if not isinstance(self.engine, LocalEngine):
            raise EngineError(f"an adapter for self-evaluation needs a model on this machine, not '{self.engine.name}'")
        return self.engine

    def fingerprint(self) -> str:
        """The judge's, and the adapter's weights."""
        return content_key(super().fingerprint(), None if self.adapter is None else self.adapter.key())

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] P(win or tie); the adapter is on only within this call."""
        import torch

        if self.adapter is None:
            scores = super().score(batch, ctx)
        else:
            with self.adapter.on():
                scores = super().score(batch, ctx)
        finish = batch.finish or ["complete"] * len(batch)
        empty = [text == "" and end == "complete" for text, end in zip(batch.require_responses(), finish, strict=True)]
        status = torch.where(torch.tensor(empty, dtype=torch.bool) & scores.ok, int(Status.ABSTAINED), scores.status)
        return replace(scores, status=status.to(torch.int8))

    def learn(
        self, data: SelfEvaluationData, config: FitConfig, *, batch_rows: int = 64, epochs: int = 1, seed: int = 0
    ) -> TrainResult:
        """Train the adapter alone on labelled responses and beginnings: cross-entropy on the one token, between the two labels.

        The labels are on-policy: learn anew when the model's own weights have changed. Raises SpecError without an adapter.
        """
        from plaudit.rewards.generative.fit import fit_judge

        if self.adapter is None:
            raise SpecError("self-evaluation without an adapter asks the model as it is and learns nothing")
        with self.adapter.trained() as weights:
            return fit_judge(
                self,
                data.batch,
                data.labels,
                config,
                batch_rows=batch_rows,
                epochs=epochs,
                modules={"self_evaluation": weights},
                among_labels=True,
                seed=seed,
            )


def own_samples(
    generator: Generator,
    reward: Reward,
    prompts: Batch,
    *,
    n: int = 2,
    how: Sampling | Any = None,
    labels: str = "win_or_tie",
    eps: float = 0.01,
    ctx: Context | None = None,
) -> SelfEvaluationData:
    """Labelled samples of a generator: n a prompt, scored by an outer reward. ctx: its seed draws them, its budget counts."""
    import torch

    ctx = ctx or Context()
    with torch.no_grad():
        drawn = generator.rollout(prompts, n, how=how, seed=derive_seed(ctx.seed, "own samples")).batch
    ctx.budget.spend(samples=len(drawn))
    return labelled_samples(drawn, score_counted(reward, drawn, ctx).scores, labels=labels, eps=eps)
