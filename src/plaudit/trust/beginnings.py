"""Does a judge of unfinished responses know early? Calibration and AUROC of its probabilities, by how much it was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.self_evaluation import SelfEvaluationData, cut_at
from plaudit.trust.benchmarks.ranks import auc, curve_statistic
from plaudit.trust.calibration import Calibration, Probabilities, calibration
from plaudit.types import Context, Engine, Status

SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Known:
    """What a judge knew when it was shown this share of each response. auroc: NaN where all labels are alike."""

    share: float
    auroc: float
    calibration: Calibration


def known_by_share(
    judge: BaseReward,
    data: SelfEvaluationData,
    *,
    shares: Sequence[float] = SHARES,
    engine: Engine | None = None,
    ctx: Context | None = None,
) -> list[Known]:
    """P as the judge says it against the labels, at each share of the responses' tokens (of their characters without an engine).

    Rows that it cannot judge are left out and counted in the calibration. Prompts are the clusters of its intervals.
    """
    import numpy as np

    found = []
    for share in shares:
        texts = [str(text) for text in data.batch.require_responses()]
        shown = texts if share >= 1 else [cut_at(text, share, engine) if len(text) > 1 else text for text in texts]
        scores = judge.score(replace(data.batch, responses=shown), ctx)
        rows = [row for row, ok in enumerate(scores.ok.tolist()) if ok]
        probs, labels = [float(scores.values[row]) for row in rows], [data.labels[row] for row in rows]
        left_out = {status.label: count for status, count in scores.counts().items() if status != Status.OK}
        clusters = tuple(str(data.batch.prompts[row]) for row in rows)
        cases = Probabilities("responses", tuple(probs), tuple(labels), clusters, left_out)
        ranked = curve_statistic(probs, [label > 0.5 for label in labels], auc) if probs else None
        area = math.nan if ranked is None else float(ranked(np.ones((1, len(probs)), dtype=np.int64))[0])
        found.append(Known(share, area, calibration(cases)))
    return found
