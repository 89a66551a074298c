"""One scored draw: from the source through reward and shaper, over processes, with degenerate groups dropped or redrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from plaudit.fitting.processes import Processes
from plaudit.fitting.seeds import derive_seed
from plaudit.training.config import RunConfig
from plaudit.training.joining import join_scores, join_trajectories
from plaudit.training.scoring import Scored, score_counted, score_figures, sort_groups, status_figures
from plaudit.training.sources import PartlyScored, Remembering, Replay
from plaudit.types import Batch, Context, Draw, Generator, Reward, Scores, Source, Trajectories

Shaper = Callable[[Scores, Batch], Scores]


@dataclass
class ScoredDraw:
    """What one step learns from. raw: scores before shaping. figures: counts for the log. errors: sentences for the record."""

    trajectories: Trajectories
    scores: Scores
    raw: Scores
    figures: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.trajectories)

    def select(self, rows: list[int]) -> ScoredDraw:
        """The given rows."""
        return ScoredDraw(
            self.trajectories.select(rows), self.scores.select(rows), self.raw.select(rows), self.figures, self.errors
        )


@dataclass
class Drawer:
    """Draws and scores. Every process returns the same whole draw; with several parts each has made only its own."""

    source: Source
    reward: Reward
    shaper: Shaper | None
    config: RunConfig
    processes: Processes

    def draw(self, generator: Generator, ctx: Context) -> ScoredDraw:
        """One draw, as `config.on_degenerate` says. Its figures count the first draw, before any group is dropped."""
        drawn = self._once(generator, ctx)
        groups = sort_groups(drawn.trajectories.batch, drawn.scores)
        figures = {
            "rows": float(len(drawn)),
            **status_figures(drawn.raw),
            **groups.counts(),
            **score_figures(drawn.raw, "reward"),
            **(score_figures(drawn.scores, "shaped") if self.shaper is not None else {}),
            **_truncated(drawn.trajectories),
        }
        if self.config.on_degenerate == "keep" or not (groups.equal or groups.empty):
            return replace(drawn, figures=figures)
        kept = [drawn.select(_rows(groups.useful))] if groups.useful else []
        wanted = len(groups.equal) + len(groups.empty)
        if self.config.on_degenerate == "redraw":
            wanted = self._redraw(generator, ctx, wanted, kept, figures)
        figures["groups_dropped"] = float(wanted)
        errors = [error for part in kept for error in part.errors] or drawn.errors
        if not kept:
            return replace(drawn.select([]), figures=figures, errors=errors)
        return replace(_joined(kept), figures=figures, errors=list(dict.fromkeys(errors)))

    def _redraw(self, generator: Generator, ctx: Context, wanted: int, kept: list[ScoredDraw], figures: dict[str, float]) -> int:
        """Fill up with useful groups of further draws; how many are still missing when the cap is reached."""
        for attempt in range(self.config.max_redraws):
            if not wanted:
                break
            figures["redraws"] = attempt + 1.0
            again = self._once(generator, replace(ctx, seed=derive_seed(ctx.seed, "redraw", attempt)))
            useful = sort_groups(again.trajectories.batch, again.scores).useful[:wanted]
            if useful:
                kept.append(again.select(_rows(useful)))
            wanted -= len(useful)
        return wanted

    def _once(self, generator: Generator, ctx: Context) -> ScoredDraw:
        """One draw of the source, scored and shaped."""
        parts = self.config.draw_parts or self.processes.count
        if parts > 1 and hasattr(self.source, "draw_parts"):
            trajectories, scored = self._in_parts(generator, ctx, parts)
        else:
            draw = self.source.draw(generator, ctx)
            trajectories, scored = draw.trajectories, self._score(draw, ctx)
        if isinstance(self.source, Remembering) and not isinstance(self.source, Replay):  # what is replayed is known
            self.source.remember(trajectories, scored.scores)
        shaped = scored.scores if self.shaper is None else self.shaper(scored.scores, trajectories.batch)
        return ScoredDraw(trajectories, shaped, scored.scores, errors=scored.errors)

    def _in_parts(self, generator: Generator, ctx: Context, parts: int) -> tuple[Trajectories, Scored]:
        """A draw whose parts processes share: each samples and scores its own, all get all, and one's error is everyone's."""
        mine = range(self.processes.index, parts, self.processes.count)
        before, own = ctx.budget.spent.copy(), []
        error: Exception | None = None
        try:
            draws = self.source.draw_parts(generator, ctx, parts, mine)  # type: ignore[attr-defined]  # asked for by the caller
            for number, draw in zip(mine, draws, strict=True):
                context = replace(ctx, seed=derive_seed(ctx.seed, "part", number))
                own.append((number, draw.trajectories, self._score(draw, context)))
        except Exception as raised:
            error = raised
        spent = {name: amount - before[name] for name, amount in ctx.budget.spent.items()}
        told = self.processes.gather((own, spent, error))
        for number, (_, others, found) in enumerate(told):
            if found is not None:
                raise found
            if number != self.processes.index:
                ctx.budget.spend(**others)
        everyone = sorted((one for some, _, _ in told for one in some), key=lambda one: int(one[0]))
        scored = Scored(join_scores([one[2].scores for one in everyone]), [text for one in everyone for text in one[2].errors])
        return join_trajectories([one[1] for one in everyone]), scored

    def _score(self, draw: Draw, ctx: Context) -> Scored:
        """Scores of a draw; only rows that have none yet are judged."""
        batch = draw.trajectories.batch
        known = draw.known if isinstance(draw, PartlyScored) else None
        if draw.scores is not None and (known is None or bool(known.all())):
            return Scored(draw.scores)
        if draw.scores is None or known is None or not bool(known.any()):
            return self._judge(batch, ctx)
        fresh, old = (~known).nonzero().flatten().tolist(), known.nonzero().flatten().tolist()
        scored = self._judge(batch.select(fresh), ctx)
        joined = join_scores([draw.scores.select(old), scored.scores])
        place = {row: at for at, row in enumerate([*old, *fresh])}
        return Scored(joined.select([place[row] for row in range(len(batch))]), scored.errors)

    def _judge(self, batch: Batch, ctx: Context) -> Scored:
        """Score rows; rewards that cost something count their calls themselves, and the others are counted here."""
        return score_counted(self.reward, batch, ctx)


def _rows(groups: list[list[int]]) -> list[int]:
    return [row for rows in groups for row in rows]


def _joined(parts: list[ScoredDraw]) -> ScoredDraw:
    return ScoredDraw(
        join_trajectories([part.trajectories for part in parts]),
        join_scores([part.scores for part in parts]),
        join_scores([part.raw for part in parts]),
    )


def _truncated(t: Trajectories) -> dict[str, float]:
    """Rows that did not end by themselves, where the generator says so."""
    ends: Any = t.done if t.done is not None else t.batch.finish
    good = ("terminal", "complete")
    return {} if ends is None else {"rows_truncated": float(sum(end not in good for end in ends))}
