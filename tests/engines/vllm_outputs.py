"""What vLLM's own classes are made into, and what plaudit's settings are to them: run by an environment that has vLLM.

`make .peers/vllm/.ready` builds one without a GPU; `test_vllm.py` runs this file in it. Elsewhere its functions are run on
stand-ins with the same fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from plaudit.engines import vllm as ours
from plaudit.engines.http_client import RequestProblem
from plaudit.types import Sampling, Status


def real() -> tuple[Any, Any, Any, Any]:
    """vLLM's SamplingParams, Logprob, CompletionOutput, RequestOutput."""
    from vllm.logprobs import Logprob
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.sampling_params import SamplingParams

    return SamplingParams, Logprob, CompletionOutput, RequestOutput


def stand_ins() -> tuple[Any, Any, Any, Any]:
    """Plain objects with the fields of vLLM's."""

    def make(*fields: str) -> Any:
        return dataclasses.make_dataclass("StandIn", [(name, Any, None) for name in fields])

    completion = make("index", "text", "token_ids", "cumulative_logprob", "logprobs", "finish_reason", "stop_reason")
    output = make("request_id", "prompt", "prompt_token_ids", "prompt_logprobs", "outputs", "finished", "num_cached_tokens")
    return SimpleNamespace, make("logprob", "rank", "decoded_token"), completion, output


def refusal(call: Any, *given: Any) -> str:
    """What a reader says of an output of no use."""
    with pytest.raises(RequestProblem) as caught:
        call(*given)
    assert caught.value.status is Status.FAILED
    return caught.value.detail


def check(classes: tuple[Any, Any, Any, Any]) -> None:
    """Every conversion, on one set of classes."""
    parameters, logprob, completion, output = classes

    def answered(
        text: str = "", ids: tuple[int, ...] = (), reason: str | None = "stop", stop: Any = None,
        told: Mapping[int, float] | None = None, prompt: list[Mapping[int, float] | None] | None = None,
    ) -> Any:  # fmt: skip
        def place(values: Mapping[int, float] | None) -> Any:
            return (
                None
                if values is None
                else {token: logprob(logprob=value, rank=1, decoded_token="") for token, value in values.items()}
            )

        made = completion(
            index=0, text=text, token_ids=ids, cumulative_logprob=None, logprobs=None if told is None else [place(told)],
            finish_reason=reason, stop_reason=stop,
        )  # fmt: skip
        shown = None if prompt is None else [place(one) for one in prompt]
        return output(
            request_id="0", prompt=None, prompt_token_ids=[1], prompt_logprobs=shown, outputs=[made], finished=True,
            num_cached_tokens=0,
        )  # fmt: skip

    ended = ours.read_generation(answered("Yes", (5, 2)), 7)
    assert (ended.text, ended.finish, ended.prompt_tokens, ended.completion_tokens) == ("Yes", "complete", 7, 1)
    stopped = ours.read_generation(answered("Yes", (5, 9), stop="END"), 7)
    assert (stopped.finish, stopped.completion_tokens) == ("complete", 2)
    assert ours.read_generation(answered("Yes", (5, 9), reason="length"), 7).finish == "truncated"
    assert "abort" in refusal(ours.read_generation, answered(reason="abort"), 7)
    assert "None" in refusal(ours.read_generation, answered(reason=None), 7)

    assert ours.read_options(answered(told={4: -0.5, 6: -90.0, 8: 1e-9}), [4, 6, 8]) == {4: -0.5, 6: -90.0, 8: 0.0}
    assert "token 7" in refusal(ours.read_options, answered(told={4: -0.5}), [4, 7])
    assert "token 4" in refusal(ours.read_options, answered(), [4])
    assert "NaN" in refusal(ours.read_options, answered(told={4: float("nan")}), [4])

    scored = answered(prompt=[None, {11: -1.0}, {12: -2.0, 3: -0.1}, {13: -3.0}])
    assert ours.read_continuation(scored, 2, [12, 13]) == [-2.0, -3.0]
    assert "of 2 tokens, not of 1" in refusal(ours.read_continuation, scored, 2, [12])
    assert "token 99" in refusal(ours.read_continuation, scored, 2, [12, 99])
    assert "of 0 tokens" in refusal(ours.read_continuation, answered(), 2, [12])

    how = Sampling(max_tokens=9, temperature=0.5, top_p=0.9, stop=("END", ""), seed=3)
    made = parameters(**ours.generation_settings(how, 2**63 + 5, 4))
    assert (made.max_tokens, made.temperature, made.top_p, made.stop, made.seed) == (4, 0.5, 0.9, ["END"], 5)
    asking = parameters(**ours.option_settings([4, 6]))
    assert (asking.max_tokens, asking.temperature, asking.logprob_token_ids) == (1, 0.0, [4, 6])
    assert parameters(**ours.scoring_settings()).prompt_logprobs == 0


if __name__ == "__main__":
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    assert ours.MOST_TOKENS <= MAX_LOGPROB_TOKEN_IDS
    check(real())
