"""`MathAnswer`: is the final answer of a solution the gold answer?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from plaudit.rewards.rules.answers import Extraction, as_number, as_words, extract_answer, numbers_agree, right_side, same_text
from plaudit.rewards.rules.base import Judged, RuleReward
from plaudit.rewards.rules.math_worker import SELF_TEST
from plaudit.rewards.rules.pool import Answer, ProcessPool
from plaudit.rewards.rules.source import module_source
from plaudit.types import Batch, SpecError, Status, UserError, Verdict
from plaudit.types.keys import content_key

_PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime")
_MODULES = ("plaudit.rewards.rules.answers", "plaudit.rewards.rules.math_worker")


class MathAnswer(RuleReward):
    """1 if a solution's final answer equals the reference, 0 if it does not, and a status where it cannot be decided.

    Plain numbers and words are decided at once; everything else by math-verify (symbolic equality after LaTeX parsing) in a
    pool of processes under a hard limit. Outcomes: no answer can be found -> UNPARSABLE (or wrong, by `on_no_answer`; published
    systems differ, so it is a choice); no reference, or one that nobody can read -> MISSING_REFERENCE; the limit passes ->
    TIMED_OUT. A reference may be a number, an answer, a worked solution that marks its answer, or a list of accepted answers.

    timeout: seconds per comparison. workers: processes, None: the cores, at most 4. extraction: see `extract_answer`.
    Raises UserError at first use if a worker cannot start or judges a known right or wrong pair wrongly.
    """

    name = "math"
    needs_reference = True

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        workers: int | None = None,
        extraction: Extraction = "boxed-or-last",
        on_no_answer: Literal["unparsable", "wrong"] = "unparsable",
    ) -> None:
        if extraction not in ("boxed-or-last", "marked", "boxed", "whole"):
            raise SpecError(f"extraction must be boxed-or-last, marked, boxed or whole, not '{extraction}'")
        if on_no_answer not in ("unparsable", "wrong"):
            raise SpecError(f"on_no_answer must be unparsable or wrong, not '{on_no_answer}'")
        self.extraction, self.on_no_answer = extraction, on_no_answer
        self.settings = {"extraction": extraction, "on_no_answer": on_no_answer, "timeout": timeout}
        self.pool = ProcessPool(
            "plaudit.rewards.rules.math_worker:compare_answers", timeout=timeout, workers=workers, self_test=SELF_TEST
        )

    def judge_one(self, prompt: Any, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """One row; in a loop, prefer `score`, which uses all workers at once."""
        return self._judge([(response, reference)])[0]

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] verdicts; rows that need algebra go through the pool together."""
        rows = list(self.text_rows(batch))
        judged: list[Judged] = [text if isinstance(text, Status) else None for _, text, _ in rows]
        open_rows = [(row, text, reference) for row, (_, text, reference) in enumerate(rows) if not isinstance(text, Status)]
        for (row, _, _), said in zip(open_rows, self._judge([(text, gold) for _, text, gold in open_rows]), strict=True):
            judged[row] = said
        return judged

    def _judge(self, pairs: Sequence[tuple[str, Any]]) -> list[Judged]:
        judged: list[Judged] = []
        asked: list[tuple[int, str, str]] = []
        for row, (response, reference) in enumerate(pairs):
            answers = gold_answers(reference)
            said = extract_answer(response, self.extraction)
            if not answers:
                judged.append(Verdict(status=Status.MISSING_REFERENCE, detail="the reference is empty"))
            elif said is None:
                judged.append(self._no_answer("no answer found in the response"))
            else:
                quick = [decide_plainly(gold, said.text) for gold in answers]
                judged.append(Verdict(said.text[:200], 1.0) if True in quick else Verdict(said.text[:200], 0.0))
                open_golds = [gold for gold, known in zip(answers, quick, strict=True) if known is None]
                if True not in quick:
                    asked += [(row, gold, _question(gold, said.text)) for gold in open_golds]
        replies = self.pool.map([(gold, said) for _, gold, said in asked]) if asked else []
        by_row: dict[int, list[Answer]] = {}
        for (row, _, _), reply in zip(asked, replies, strict=True):
            by_row.setdefault(row, []).append(reply)
        for row, answers_of_row in by_row.items():
            judged[row] = self._settle(judged[row], answers_of_row)
        return judged

    def _settle(self, before: Judged, replies: list[Answer]) -> Judged:
        """One verdict out of the comparisons with each accepted answer; `before` holds the answer that was found."""
        choice = before.choice if isinstance(before, Verdict) else None
        said = [reply.value for reply in replies if reply.status == Status.OK]
        if "right" in said:
            return Verdict(choice, 1.0)
        failed = next((reply for reply in replies if reply.status != Status.OK), None)
        if failed is not None:
            return Verdict(choice, status=failed.status, detail=failed.detail)
        if "wrong" in said:
            return Verdict(choice, 0.0)
        if "no answer" in said:
            return self._no_answer(f"the answer cannot be read: {choice}")
        return Verdict(choice, status=Status.MISSING_REFERENCE, detail="the reference cannot be read as an answer")

    def _no_answer(self, detail: str) -> Verdict:
        if self.on_no_answer == "wrong":
            return Verdict(value=0.0, detail=detail)
        return Verdict(status=Status.UNPARSABLE, detail=detail)

    def check(self) -> None:
        """Start one worker. Raises UserError if math-verify is missing, or judges a known right or wrong pair wrongly."""
        from importlib.util import find_spec

        missing = [name for name in ("math_verify", "latex2sympy2_extended", "antlr4") if find_spec(name) is None]
        if missing:
            raise UserError(f"the math rule needs {', '.join(missing)}: pip install 'math-verify[antlr4_13_2]'")
        self.pool.check()

    def fingerprint(self) -> str:
        """Also the versions of math-verify and what it stands on."""
        from importlib.metadata import PackageNotFoundError, version

        versions = {}
        for package in _PACKAGES:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = "none"
        return content_key(super().fingerprint(), versions, [module_source(name) for name in _MODULES])

    def close(self) -> None:
        """Stop the worker processes; the next use starts new ones."""
        self.pool.close()


def gold_answers(reference: Any) -> list[str]:
    """The accepted answers as texts: a worked solution gives the answer that it marks."""
    if isinstance(reference, (list, tuple, set, frozenset)):
        return [answer for item in reference for answer in gold_answers(item)]
    text = str(reference).strip()
    if "\n" in text or "####" in text or "\\boxed" in text:
        marked = extract_answer(text, "marked")
        text = marked.text if marked is not None else text
    return [text] if text else []


def _question(gold: str, said: str) -> str:
    """The answer as it goes to math-verify: a name before a sign of equality is left out where the gold answer has none."""
    return said if "=" in gold else right_side(said)


def decide_plainly(gold: str, said: str) -> bool | None:
    """Right or wrong where both are plain numbers or words, None where it takes algebra."""
    if same_text(gold, said) or ("=" not in gold and same_text(gold, right_side(said))):
        return True
    gold_number = as_number(gold)
    if gold_number is not None:
        said_number = as_number(said)
        return None if said_number is None else numbers_agree(gold_number, said_number)
    gold_words = as_words(gold)
    if gold_words is None or (len(gold_words) == 1 and gold.strip().islower()):  # a lone small letter is a variable
        return None
    said_words = as_words(said)
    return None if said_words is None else said_words == gold_words
