"""Prompts to train a judge on, from a labelled file: what a contract asks about each response or pair, and the right verdict."""

from __future__ import annotations

from typing import Any

from plaudit.types import Batch, UserError


def labelled_prompts(generator: Any, *, contract: str, rows: str, limit: int | None = None) -> Batch:
    """Judging prompts of a labelled file, which may have any layout that `plaudit judge` reads; rows without labels are left out.

    contract: a built-in contract or a YAML file. A pointwise one asks about every response, whose gold value is the verdict's;
    a pairwise one about every labelled pair, in both orders. generator: whose control strings the texts must not contain.
    Raises UserError where nothing is labelled, and where a gold value is no verdict of the contract.
    """
    from plaudit.data import read_rows
    from plaudit.data.row import rows_to_batch
    from plaudit.rewards.generative import load_contract
    from plaudit.rewards.generative.judging_prompts import judging_prompts

    loaded = load_contract(contract)
    labelled = [row for row in read_rows(rows, limit=limit) if row.gold is not None]
    if not labelled:
        raise UserError(f"{rows} has no labelled rows: a judge learns from gold values")
    batch = rows_to_batch(labelled)
    tokenizer = getattr(getattr(generator, "codec", None), "tokenizer", None)
    control = tuple(sorted(map(str, tokenizer.all_special_tokens))) if tokenizer is not None else ()
    gold = [value for row in labelled for value in row.gold or ()]
    if loaded.kind != "pairwise":
        return judging_prompts(loaded, batch, gold, control=control)
    pairs = []
    start = 0
    for row in labelled:
        pairs += [(start + a, start + b) for one, other in row.contests() for a, b in ((one, other), (other, one))]
        start += len(row.responses)
    wins = [0.5 if gold[a] == gold[b] else float(gold[a] > gold[b]) for a, b in pairs]
    return judging_prompts(loaded, batch, wins, pairs=pairs, control=control)
