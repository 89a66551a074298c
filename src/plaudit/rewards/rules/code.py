"""Code that is right: a response's program is run against tests, in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from plaudit.engines.sandbox import Execution, Limits, Sandbox, SandboxUnavailable
from plaudit.rewards.rules.base import Judged, RuleReward, failure
from plaudit.types import Batch, Prompt, Status, UserError, Verdict


@dataclass(frozen=True)
class Printed:
    """A test of a whole program: given this standard input, it prints that (white space at the ends aside)."""

    stdin: str
    expected: str


def read_tests(reference: Any) -> list[Printed | str] | None:
    """The tests of a reference: Python statements as text (one test), or a list of texts and of input and output.

    Input and output: (input, output), {"input": ..., "output": ...}, or one mapping of two lists, "inputs" and "outputs". None
    where it is nothing of that, or empty.
    """
    if isinstance(reference, str):
        return [reference] if reference.strip() else None
    if isinstance(reference, Mapping):
        inputs, outputs = reference.get("inputs"), reference.get("outputs")
        if isinstance(inputs, Sequence) and isinstance(outputs, Sequence) and len(inputs) == len(outputs):
            reference = list(zip(inputs, outputs, strict=True))
        elif "tests" in reference:
            reference = reference["tests"]
    if not isinstance(reference, Sequence) or not reference:
        return None
    tests = [_read_test(item) for item in reference]
    return None if None in tests else tests  # type: ignore[return-value]  # checked


def _read_test(item: Any) -> Printed | str | None:
    if isinstance(item, str):
        return item if item.strip() else None
    if isinstance(item, Mapping) and {"input", "output"} <= set(item):
        item = (item["input"], item["output"])
    if isinstance(item, Sequence) and len(item) == 2 and all(isinstance(part, (str, int, float)) for part in item):
        return Printed(str(item[0]), str(item[1]))
    return None


class CodeTests(RuleReward):
    """Share of its tests that the program in a response passes (the reference: statements, or input and output).

    The program is the last closed Python block of the response; where there is none the row is UNPARSABLE. A statement passes if
    it raises nothing after the program ran, in the same process, which must not end by it; each has that to itself. Whatever the
    program does (an error, a time-out, endless output) is a test that is not passed. whole: 1 if all are passed, else 0. limits:
    of each execution. strict: refuse to run where the sandbox cannot keep all its promises. No tests -> MISSING_REFERENCE.
    A program can make a statement pass by an object that equals everything; input and output cannot be deceived so.
    """

    name = "code"
    needs_reference = True
    batch_size = 256

    def __init__(self, *, whole: bool = False, limits: Limits | None = None, strict: bool = True, workers: int = 2) -> None:
        if workers < 1:
            raise UserError(f"code needs at least one worker, not {workers}")
        self.whole, self.workers = whole, workers
        self.sandbox = Sandbox(limits or Limits(cpu_seconds=5.0, wall_seconds=10.0), strict=strict)
        self.settings = {"whole": whole, "sandbox": self.sandbox.settings}

    def check(self) -> None:
        """Prove it on a right and a wrong program. Raises SandboxUnavailable if it cannot run here."""
        tests = ["assert twice(2) == 4", "assert twice(-1) == -2"]
        found = [self._judge(f"def twice(x): return {body}", tests).value for body in ("2 * x", "x * x")]
        if found != [1.0, 0.0 if self.whole else 0.5]:
            raise SandboxUnavailable(f"the code rule does not work here: a right and a wrong program were worth {found}")

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] shares of passed tests. Raises SandboxUnavailable where nothing can be run."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(lambda row: self._row(*row), self.text_rows(batch)))

    def _row(self, prompt: Prompt, response: str | Status, reference: Any) -> Judged:
        if isinstance(response, Status):
            return response
        try:
            return self.judge_one(prompt, response, reference)
        except UserError:
            raise
        except Exception as error:
            return failure(error)

    def judge_one(self, prompt: Prompt, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """One row."""
        from plaudit.rewards.generative.formats.steps import code_blocks

        tests = read_tests(reference)
        if tests is None:
            return Verdict(status=Status.MISSING_REFERENCE, detail="no tests that can be read")
        blocks = code_blocks(response)
        if not blocks:
            return Verdict(status=Status.UNPARSABLE, detail="no closed block of Python")
        return self._judge(blocks[-1], tests)

    def _judge(self, code: str, tests: Sequence[Printed | str]) -> Verdict:
        done = [self._test(code, test) for test in tests]
        passed = sum(one.ok for one in done)
        failed = next((f"test {place + 1}: {one.status}: {one.detail}" for place, one in enumerate(done) if not one.ok), "")
        value = float(passed == len(done)) if self.whole else passed / len(done)
        return Verdict(value=value, detail=f"{passed} of {len(done)} tests passed" + (f"; {failed}" if failed else ""))

    def _test(self, code: str, test: Printed | str) -> Execution:
        if isinstance(test, Printed):
            return self.sandbox.run(code, stdin=test.stdin, expected=test.expected)
        with self.sandbox.session() as session:
            ran = session.run(code)
            return session.run(test) if ran.ok else ran
