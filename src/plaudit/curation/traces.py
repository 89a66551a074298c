"""Traces that a judge learns from: sampled answers whose verdict agrees with the label, filtered as the cards ask.

An item is a judging prompt with its gold verdict (`rewards.generative.judging_prompts`). Its sampled answers are one group. Kept
are answers with the right verdict; items that are always right teach nothing, and items that are never right have nothing to
teach, unless a second pass shows the answer to the writer and the traces forget that they saw it. Cards 04, 17, 23 and 28.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Context, Engine, Generator, Request, Reward, Sampling, Scores, Status
from plaudit.types.joining import join_batches

if TYPE_CHECKING:
    from plaudit.types import Prompt

Writer = Callable[[Batch, int, int], Batch]
"""(prompts, samples a prompt, seed) -> answered rows, those of a prompt next to each other and in one group."""
Hint = Callable[["Prompt", str], "Prompt"]
"""(prompt, gold verdict) -> the prompt with the verdict given away."""
Accept = Callable[[str], bool]
"""Whether an answer may be a trace, apart from its verdict: long enough, in one language, silent about the hint ..."""
Prefer = Literal["any", "shortest"]


@dataclass(frozen=True)
class TraceReport:
    """What became of the answers and the items.

    items, answers: there were. kept: traces. wrong, unscored (no number), truncated, repeated (equal texts of an item),
    refused (by `accept`), surplus (right, but the item had enough): answers that are no traces. always_right: items dropped
    because every answer was right; never_right: items without one; hinted: items that only the second pass gave traces for.
    """

    items: int = 0
    answers: int = 0
    kept: int = 0
    wrong: int = 0
    unscored: int = 0
    truncated: int = 0
    repeated: int = 0
    refused: int = 0
    surplus: int = 0
    always_right: int = 0
    never_right: int = 0
    hinted: int = 0

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def written_by(writer: Generator | Engine, how: Sampling) -> Writer:
    """A writer of answers out of a generator, or out of an engine (a stronger model, served or local).

    A row whose engine fails is an answer without text, "truncated": it is counted, and never a trace.
    """
    if isinstance(writer, Generator):

        def sampled(prompts: Batch, n: int, seed: int) -> Batch:
            import torch

            with torch.no_grad():
                return writer.rollout(prompts, n, how=how, seed=seed).batch

        return sampled

    def generated(prompts: Batch, n: int, seed: int) -> Batch:
        import torch

        places = [row for row in range(len(prompts)) for _ in range(n)]
        requests = [Request(_messages(prompt)) for prompt in prompts.prompts]
        # a seed a sample: a server that honours seeds would answer equal requests of one seed alike
        rounds = [writer.generate(requests, replace(how, seed=derive_seed(seed, number))) for number in range(n)]
        made = [rounds[number][row] for row in range(len(prompts)) for number in range(n)]
        return replace(
            prompts.select(places),
            responses=[one.text for one in made],
            groups=torch.tensor(places, dtype=torch.int64),
            lengths=[one.completion_tokens for one in made],
            finish=[one.finish if one.status is Status.OK else "truncated" for one in made],
        )

    return generated


def _messages(prompt: Prompt) -> Any:
    """A chat as an engine takes it; plain text becomes a user's message."""
    return tuple(prompt) if isinstance(prompt, (list, tuple)) else ({"role": "user", "content": str(prompt)},)


def select_traces(
    answers: Batch,
    scores: Scores,
    *,
    threshold: float = 0.5,
    per_item: int | None = 1,
    drop_always_right: bool = True,
    prefer: Prefer = "any",
    accept: Accept | None = None,
    seed: int = 0,
) -> tuple[Batch, list[list[int]], TraceReport]:
    """(traces, rows of the items without a right answer, what was counted) of sampled answers.

    answers: groups are items. scores: above `threshold` the verdict is right. per_item: the most traces of an item (None:
    all), drawn at random or the shortest. drop_always_right: leave out items of two answers or more that are all right.
    An answer that was cut off is never a trace; neither is one without a score, which counts as not right.
    Raises ValueError where the scores are not the answers'.
    """
    if len(scores) != len(answers):
        raise ValueError(f"{len(scores)} scores for {len(answers)} answers")
    right = ((scores.values > threshold) & scores.ok).tolist()
    usable, count = _usable(answers, right, scores, accept)
    kept: list[int] = []
    never: list[list[int]] = []
    groups = answers.group_rows()
    for number, rows in enumerate(groups):
        good = [row for row in rows if usable[row]]
        if drop_always_right and len(rows) > 1 and all(right[row] for row in rows):
            count["always_right"] += 1
            count["surplus"] += len(good)
        elif not good:
            never.append(rows)
        else:
            chosen = _chosen(answers, good, per_item, prefer, derive_seed(seed, "traces", number))
            count["surplus"] += len(good) - len(chosen)
            kept += chosen
    report = TraceReport(len(groups), len(answers), len(kept), never_right=len(never), **count)
    return answers.select(kept), never, report


def _usable(answers: Batch, right: Sequence[bool], scores: Scores, accept: Accept | None) -> tuple[list[bool], dict[str, int]]:
    """[B] which answers may be traces, and how many may not, each counted once by its first reason."""
    finish = answers.finish or ["complete"] * len(answers)
    texts, scored = answers.require_responses(), scores.ok.tolist()
    names = ("wrong", "unscored", "truncated", "repeated", "refused", "surplus", "always_right")
    count = dict.fromkeys(names, 0)
    usable = [False] * len(answers)
    for rows in answers.group_rows():
        seen: set[str] = set()
        for row in rows:
            text = str(texts[row])
            reason = (
                "truncated" if finish[row] != "complete"
                else "unscored" if not scored[row]
                else "wrong" if not right[row]
                else "repeated" if text in seen
                else "refused" if accept is not None and not accept(text)
                else None
            )  # fmt: skip
            if reason is None:
                usable[row] = True
                seen.add(text)
            else:
                count[reason] += 1
    return usable, count


def _chosen(answers: Batch, rows: list[int], most: int | None, prefer: Prefer, seed: int) -> list[int]:
    """At most `most` of the rows, in their order."""
    if most is None or len(rows) <= most:
        return rows
    if prefer == "shortest":
        texts = answers.require_responses()
        return sorted(sorted(rows, key=lambda row: (len(str(texts[row])), row))[:most])
    return sorted(random.Random(seed).sample(rows, most))


def build_traces(
    writer: Writer,
    prompts: Batch,
    verdict: Reward,
    *,
    samples: int = 8,
    per_item: int | None = 1,
    drop_always_right: bool = True,
    prefer: Prefer = "any",
    accept: Accept | None = None,
    hint: Hint | None = None,
    seed: int = 0,
    ctx: Context | None = None,
) -> tuple[Batch, TraceReport]:
    """Rejection sampling: answers of `writer` to judging prompts, of which those with the right verdict are traces.

    prompts: with the gold verdicts as references. verdict: such as `VerdictReward`. hint: a second pass over the items that
    were never right, asked with the verdict given away; its traces stand under the plain prompt. `extras["hinted"]` says
    which those are: filter what they say about the hint with `accept`. Raises ValueError for fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"at least one sample an item is needed, not {samples}")
    rules: dict[str, Any] = {"per_item": per_item, "prefer": prefer, "accept": accept}
    answers = writer(prompts, samples, derive_seed(seed, "answers"))
    scores = verdict.score(answers, ctx)
    traces, never, report = select_traces(answers, scores, drop_always_right=drop_always_right, seed=seed, **rules)
    traces.extras["hinted"] = [False] * len(traces)
    if hint is None or not never:
        return traces, report
    left = answers.select([rows[0] for rows in never])
    left = replace(left, responses=None, groups=None, lengths=None, finish=None)
    references = left.references or []
    shown = replace(left, prompts=[hint(prompt, str(gold)) for prompt, gold in zip(left.prompts, references, strict=True)])
    second = writer(shown, samples, derive_seed(seed, "hinted answers"))
    plain = replace(second, prompts=[left.prompts[row] for row in range(len(left)) for _ in range(samples)])
    more, without, again = select_traces(plain, verdict.score(plain, ctx), drop_always_right=False, seed=seed, **rules)
    more.extras["hinted"] = [True] * len(more)
    return join_batches([traces, more]), _summed(report, again, len(without))


def _summed(first: TraceReport, second: TraceReport, without: int) -> TraceReport:
    """Both passes together: items are those of the first."""
    added = ("answers", "kept", "wrong", "unscored", "truncated", "repeated", "refused", "surplus")
    both = {name: getattr(first, name) + getattr(second, name) for name in added}
    return replace(first, **both, never_right=without, hinted=second.items - without)
