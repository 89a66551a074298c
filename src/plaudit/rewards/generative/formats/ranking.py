"""Scores and an order of a list as JSON (RewardAnything, Yu et al. 2025, arXiv 2506.03637), and the pure rewards that train such
a judge (card 39, steps 7, 9 and 10)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from plaudit.rewards.generative.parsing import ParsedList, after_thinking
from plaudit.types import Status

LOW, HIGH = 1.0, 5.0
ORDER_KEYS = ("best-to-worst", "best-to-worse")
"""The order's key, and how judges misspell it."""
_FENCE = re.compile(r"\A\s*```\w{0,12}\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_SCORES = re.compile(r"[\"']?scores[\"']?\s{0,8}:\s{0,8}\{([^{}]{0,20000})", re.IGNORECASE)
_ORDER = re.compile(r"[\"']?best-to-worse?t?[\"']?\s{0,8}:\s{0,8}\[([^\[\]{}]{0,20000})", re.IGNORECASE)
_PAIR = re.compile(
    r"[\"']?([A-Za-z][\w-]{0,60})[\"']?\s{0,8}:\s{0,8}[\"']?(-?\d{1,6}(?:\.\d{1,6})?)(?:\s?/\s?5)?[\"']?\s{0,8}(?:,|\Z|\n)"
)
_NAME = re.compile(r"[A-Za-z][\w-]{0,60}")
_NUMBER = re.compile(r"\s*(-?\d{1,6}(?:\.\d{1,6})?)(?:\s?/\s?5)?\s*", re.ASCII)
_THINK = re.compile(r"<think>(.*)</think>", re.DOTALL)


@dataclass(frozen=True)
class Ranking:
    """scores: by name, only those that are numbers from 1 to 5. order: names, best first, each once. reasoning: the think part.

    valid: JSON as it was asked for. repaired: the JSON had to be mended or searched for. flags: what was left out and why.
    """

    scores: dict[str, float]
    order: tuple[str, ...]
    reasoning: str
    valid: bool
    repaired: bool
    flags: tuple[str, ...] = ()


def parse_ranking(text: str, names: Sequence[str], *, strict: bool = False) -> Ranking:
    """What an answer says of the named responses; empty where it says nothing that can be read.

    strict: JSON alone after the thinking. Else a code fence is taken off, text around the outermost braces is left out, and
    broken JSON is read by pattern (single quotes, bare names, trailing commas, a list that was cut off). Scores may be
    texts such as "4/5". A score out of range, or given twice with different numbers, is left out and flagged, not clipped.
    """
    found = _THINK.search(text)
    body = after_thinking(text)
    if body is None:
        return Ranking({}, (), "", valid=False, repaired=False)
    reasoning = found[1].strip() if found else ""
    flags: list[str] = []
    record, repaired = _record(body.strip(), strict)
    if record is not None:
        pairs, order = _from_record(record)
    elif strict:
        pairs, order = [], []
    else:
        repaired = True
        scored, ordered = (list(pattern.finditer(body)) for pattern in (_SCORES, _ORDER))
        pairs = _PAIR.findall(scored[-1][1]) if scored else []
        order = _NAME.findall(ordered[-1][1]) if ordered else []
    scores = _kept_scores(pairs, names, flags)
    kept = tuple(dict.fromkeys(name for name in order if name in names))
    if len(kept) < len(order):
        flags.append("the order names something twice, or something that was not shown")
    empty = not scores and not kept
    return Ranking(scores, kept, reasoning, record is not None, repaired and not empty, tuple(flags))


def _record(body: str, strict: bool) -> tuple[dict[str, Any] | None, bool]:
    """(the JSON object, whether it had to be searched for)."""
    fence = None if strict else _FENCE.match(body)
    text = fence[1].strip() if fence else body
    tries = [(text, False)]
    if not strict and "{" in text and "}" in text:
        tries.append((text[text.index("{") : text.rindex("}") + 1], True))
    for candidate, searched in tries:
        try:
            found = json.loads(candidate, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, _Pairs):
            return {str(name): value for name, value in found}, searched
    return None, False


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its repeated keys."""


def _from_record(record: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], list[str]]:
    scores = record.get("scores")
    order = next((record[key] for key in ORDER_KEYS if key in record), None)
    names = [name for name in order if isinstance(name, str)] if isinstance(order, list) and not isinstance(order, _Pairs) else []
    return list(scores) if isinstance(scores, _Pairs) else [], names


def _kept_scores(pairs: Sequence[tuple[str, Any]], names: Sequence[str], flags: list[str]) -> dict[str, float]:
    scores: dict[str, float] = {}
    conflicting: set[str] = set()
    for name, said in pairs:
        value = _number(said)
        if name not in names:
            flags.append("a score of something that was not shown")
        elif value is None or not LOW <= value <= HIGH:
            flags.append(f"the score of {name} is no number from {LOW:g} to {HIGH:g}")
        elif scores.setdefault(name, value) != value:
            conflicting.add(name)
    if conflicting:
        flags.append(f"several scores of {', '.join(sorted(conflicting))}")
    return {name: value for name, value in scores.items() if name not in conflicting}


def _number(said: object) -> float | None:
    if isinstance(said, str):
        match = _NUMBER.fullmatch(said)
        return float(match[1]) if match else None
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return None
    try:
        return float(said) if math.isfinite(said) else None
    except OverflowError:
        return None


def response_names(count: int) -> list[str]:
    """The masked names of a listwise contract."""
    return [f"response-{place}" for place in range(1, count + 1)]


def ranked_scores(text: str, count: int, strict: bool = False) -> ParsedList:
    """The scores of a ranking as the readout of a listwise contract; strict: only where all are there and nothing was flagged."""
    names = response_names(count)
    ranking = parse_ranking(text, names, strict=strict)
    if not ranking.scores or (strict and (ranking.flags or len(ranking.scores) < count)):
        return ParsedList(Status.UNPARSABLE, detail="; ".join(ranking.flags) or "no scores could be read")
    values = tuple(ranking.scores.get(name) for name in names)
    said = [*ranking.flags, *(["the JSON was mended"] if ranking.repaired else [])]
    return ParsedList(Status.OK, values, tuple(None if value is None else f"{value:g}" for value in values), "; ".join(said))


def broken_ties(ranking: Ranking, delta: float = 0.5) -> dict[str, float]:
    """score - delta * place / k, so that equal scores follow the order (our rule for use as a reward, card 39).

    A name that the order leaves out keeps its score less delta. Raises ValueError unless 0 <= delta < 1: whole scores would
    change places.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta is {delta:g}; expected a number from 0 to below 1")
    place = {name: number / len(ranking.order) for number, name in enumerate(ranking.order)}
    return {name: score - delta * place.get(name, 1.0) for name, score in ranking.scores.items()}


def pair_order_reward(predicted: Mapping[str, float], gold: Mapping[str, float], *, weighted: bool = True) -> float | None:
    """max(0, 1 - sum of penalties / sum of weights) over the pairs of names that both have (card 39, step 9).

    A pair weighs 1 + |gold difference| (weighted=False: 1); reversed it costs its weight, a tie that is none in gold half of it,
    and gold ties cost nothing. Fewer than two common names earn 0 (the released code pays 1 for an empty answer). None
    where all gold scores are equal: such an item tells nothing apart, and would pay 1 to anything.
    """
    if len(set(gold.values())) < 2:
        return None
    names = [name for name in gold if name in predicted and math.isfinite(predicted[name])]
    if len(names) < 2:
        return 0.0
    cost = total = 0.0
    for a, b in combinations(names, 2):
        true, said = gold[a] - gold[b], predicted[a] - predicted[b]
        weight = 1.0 + abs(true) if weighted else 1.0
        total += weight
        if true != 0.0:
            cost += weight if said * true < 0 else 0.5 * weight if said == 0.0 else 0.0
    return max(0.0, 1.0 - cost / total)


def ranking_format_reward(text: str, names: Sequence[str]) -> float:
    """Form of an answer, in [0, 1] (card 39, step 10): think tags 0.15 (one of them 0.05), over 50 characters of thought 0.05,
    JSON 0.20 (0.15 where it had to be searched for), the keys 0.10 each, names covered 0.20, order and scores agree 0.20.

    Agreement: share of neighbours in the order whose scores do not rise (our rule: the release lacks this function).
    """
    opened, closed = "<think>" in text, "</think>" in text
    ranking = parse_ranking(text, names)
    body = (after_thinking(text) or "").strip()
    record, _ = _record(body, strict=False)
    keys = record if record is not None else {}
    score = 0.15 if opened and closed else 0.05 if opened or closed else 0.0
    score += 0.05 if len(ranking.reasoning) > 50 else 0.0
    score += (0.15 if ranking.repaired else 0.20) if ranking.valid else 0.0
    score += 0.10 * ("scores" in keys) + 0.10 * any(key in keys for key in ORDER_KEYS)
    score += 0.20 * len(ranking.scores) / len(names) if names else 0.0
    scored = [name for name in ranking.order if name in ranking.scores]
    if len(scored) > 1:
        kept = [ranking.scores[a] >= ranking.scores[b] for a, b in pairwise(scored)]
        score += 0.20 * sum(kept) / len(kept)
    return min(score, 1.0)


def consensus(rankings: Sequence[Ranking], min_tau: float = 0.5) -> Ranking | None:
    """Several judges' rankings merged: mean scores, order by mean place (ties: by score, then name). None where they agree too
    little (mean Kendall tau-b over pairs of judges below `min_tau`), or a judge lacks a score. One ranking is its own consensus.

    Places come from the scores, so that equal scores share one. Raises ValueError without rankings.
    """
    from scipy.stats import kendalltau, rankdata

    if not rankings:
        raise ValueError("a consensus needs at least one ranking")
    names = sorted(rankings[0].scores)
    if not names or any(sorted(ranking.scores) != names for ranking in rankings):
        return None
    columns = [[ranking.scores[name] for name in names] for ranking in rankings]
    taus = [float(kendalltau(a, b).statistic) for a, b in combinations(columns, 2)]
    if taus and not sum(taus) / len(taus) >= min_tau:  # NaN, of a judge that tells nothing apart, is no agreement
        return None
    places = [rankdata([-value for value in column]) for column in columns]
    mean = {name: sum(column[k] for column in columns) / len(columns) for k, name in enumerate(names)}
    place = {name: sum(float(ranks[k]) for ranks in places) for k, name in enumerate(names)}
    order = tuple(sorted(names, key=lambda name: (place[name], -mean[name], name)))
    return Ranking(mean, order, "", valid=True, repaired=False)
