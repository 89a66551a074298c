"""What stands in the answers of `/chat/completions` and `/completions`: texts, log-probabilities, token counts.

Source of the fields: OpenAI's API reference (chat and legacy completions); vLLM and llama.cpp follow it.
Every reader takes the parsed JSON and raises RequestProblem where the answer cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.engines.http_client import RequestProblem
from plaudit.types import Finish, Request, Status, prompt_text

NO_PROMPT_LOG_PROBS = "server gives no log-probabilities of the prompt; score continuations on another engine"
NO_LOG_PROBS = "server gives no log-probabilities; use a text contract"


@dataclass(frozen=True)
class Usage:
    """Tokens of one request. estimated: how many of them were guessed, at four characters a token."""

    prompt: int
    completion: int
    estimated: int = 0


@dataclass(frozen=True)
class TextAnswer:
    """A generated text."""

    text: str
    finish: Finish
    usage: Usage


@dataclass(frozen=True)
class TopAnswer:
    """The most likely next tokens as (text, natural log of the probability), and the lowest of them: the floor."""

    tokens: tuple[tuple[str, float], ...]
    floor: float
    usage: Usage


@dataclass(frozen=True)
class EchoAnswer:
    """Natural log-probabilities of the tokens of a given continuation."""

    log_probs: tuple[float, ...]
    usage: Usage


def read_text(answer: Any, asked: Request) -> TextAnswer:
    """The generated text. `asked` serves the estimate of a missing token count."""
    choice = _choice(answer)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    reason = choice.get("finish_reason")
    if not isinstance(text, str):
        refusal = message.get("refusal") if isinstance(message, dict) else None
        why = refusal if isinstance(refusal, str) and refusal else f"finish reason {reason!r}"
        raise RequestProblem(Status.FAILED, f"the server's answer holds no text: {why}")
    return TextAnswer(text, "truncated" if reason == "length" else "complete", _usage(answer, asked, text))


def read_top(answer: Any, asked: Request) -> TopAnswer:
    """The most likely first tokens of the answer, in both the chat and the legacy form."""
    log_probs = _choice(answer).get("logprobs")
    if not isinstance(log_probs, dict):
        raise RequestProblem(Status.FAILED, NO_LOG_PROBS)
    try:
        if log_probs.get("content"):
            place = log_probs["content"][0]
            shown = [(entry["token"], float(entry["logprob"])) for entry in place.get("top_logprobs") or ()]
            drawn = (place["token"], float(place["logprob"]))
        else:
            shown = [(token, float(value)) for token, value in (log_probs["top_logprobs"][0] or {}).items()]
            drawn = (log_probs["tokens"][0], float(log_probs["token_logprobs"][0]))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise RequestProblem(Status.FAILED, NO_LOG_PROBS) from None
    floor = min((value for _, value in shown), default=drawn[1])
    if drawn[0] not in {token for token, _ in shown}:
        shown.append(drawn)  # a token drawn from below the top says nothing about the floor of those not shown
    if any(math.isnan(value) for _, value in shown):
        raise RequestProblem(Status.FAILED, "the server's log-probabilities are not numbers")
    return TopAnswer(tuple(shown), floor, _usage(answer, asked, drawn[0]))


def read_echo(answer: Any, asked: Request, context: str, continuation: str) -> EchoAnswer:
    """Log-probabilities of the tokens that make up `continuation` in an echoed prompt.

    A token that begins in the context and ends in the continuation belongs to neither: such a row fails, with that reason.
    """
    log_probs = _choice(answer).get("logprobs")
    if not isinstance(log_probs, dict):
        raise RequestProblem(Status.FAILED, NO_LOG_PROBS)
    tokens, values = log_probs.get("tokens"), log_probs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        raise RequestProblem(Status.FAILED, NO_LOG_PROBS)
    end, stop = len(context), len(context) + len(continuation)
    if not all(isinstance(token, str) for token in tokens) or not "".join(tokens).startswith(context + continuation):
        raise RequestProblem(Status.FAILED, "server does not echo the prompt's tokens; score continuations on another engine")
    inside: list[float] = []
    after = 0
    for token, value in zip(tokens, values, strict=True):
        start, after = after, after + len(token)
        if start >= stop or after <= end:
            continue
        if start < end or after > stop:
            raise RequestProblem(
                Status.FAILED, "a token spans an end of the continuation, so it has no log-probability of its own"
            )
        if not isinstance(value, int | float) or math.isnan(value):
            raise RequestProblem(Status.FAILED, "the server's log-probabilities are not numbers")
        inside.append(float(value))
    return EchoAnswer(tuple(inside), _usage(answer, asked, ""))


def read_prompt(answer: Any, asked: Request, continuation: str) -> EchoAnswer:
    """Log-probabilities of the tokens of `continuation`, with which the prompt ends, as vLLM tells them (`prompt_logprobs`).

    The row fails where the prompt does not end with it as whole tokens: a chat template may cut or add white space.
    """
    places = answer.get("prompt_logprobs") if isinstance(answer, dict) else None
    if not isinstance(places, list):
        raise RequestProblem(Status.FAILED, NO_PROMPT_LOG_PROBS)
    found: list[float] = []
    rest = continuation
    for place in reversed(places):
        if not rest:
            break
        try:
            told = next(iter(place.values()))  # of the prompt's own token: no others were asked for
            text, value = str(told["decoded_token"]), float(told["logprob"])
        except (AttributeError, StopIteration, KeyError, TypeError, ValueError):
            raise RequestProblem(Status.FAILED, NO_PROMPT_LOG_PROBS) from None
        if not text or not rest.endswith(text):
            raise RequestProblem(Status.FAILED, "the server's prompt does not end with the continuation as whole tokens")
        if math.isnan(value):
            raise RequestProblem(Status.FAILED, "the server's log-probabilities are not numbers")
        rest = rest.removesuffix(text)
        found.append(value)
    if rest:
        raise RequestProblem(Status.FAILED, NO_PROMPT_LOG_PROBS)
    return EchoAnswer(tuple(reversed(found)), _usage(answer, asked, ""))


def option_log_prob(answer: TopAnswer, spellings: Sequence[str]) -> float:
    """Natural log of the summed probability of the spellings that were shown; the floor, an upper bound, if none was."""
    wanted = set(spellings)
    shown = sum(math.exp(value) for token, value in answer.tokens if token in wanted)
    return min(0.0, math.log(shown)) if shown > 0.0 else answer.floor


def _choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RequestProblem(Status.FAILED, "the server's answer has no choices", retryable=True)
    return choices[0]


def told_usage(answer: Any) -> Usage | None:
    """The token counts that the server states, None where it states none."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    return Usage(usage["prompt_tokens"], int(usage.get("completion_tokens") or 0))


def _usage(answer: Any, asked: Request, text: str) -> Usage:
    told = told_usage(answer)
    if told is not None:
        return told
    prompt, completion = -(-len(prompt_text(asked.messages) + asked.prefix) // 4), -(-len(text) // 4)
    return Usage(prompt, completion, estimated=prompt + completion)
