"""OpenRLHF: a plaudit reward as the `reward_func` of a reward file (`--reward.remote_url my_reward.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from plaudit.integrations.one_by_one import OneByOne, Sample
from plaudit.integrations.plug import Judged, Plug, open_reward
from plaudit.types import Prompt, UserError

if TYPE_CHECKING:
    from plaudit.engines.catalogue import EngineOptions
    from plaudit.rewards.base import BaseReward

ENDINGS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<eos>", "<end_of_turn>", "<|end|>", "<｜end▁of▁sentence｜>")  # noqa: E501  # fmt: skip
"""Special tokens that end a response; OpenRLHF decodes them into the text."""


class OpenRlhfReward:
    """`reward_func(queries, prompts, labels)`; made by `openrlhf_reward`."""

    def __init__(self, plug: Plug, *, endings: Sequence[str], read_prompt: Callable[[str], Prompt]) -> None:
        self.plug = plug
        self.__name__ = plug.reward.name
        self._single = OneByOne(plug, "OpenRLHF")
        self._endings, self._read_prompt = tuple(endings), read_prompt

    def __call__(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any) -> dict[str, Any]:
        """{rewards: [B], scores: [B], extra_logs: {name: [B]}}, tensors.

        OpenRLHF calls with one sample, from a thread for each of those that are under way: they are judged together.
        """
        asked = [self._ask(*row) for row in zip(queries, prompts, labels, strict=True)]
        return self._answer([self.plug.insist(one if isinstance(one, Judged) else one.result()) for one in asked])

    def _ask(self, query: str, prompt: str, label: Any) -> Judged | Future[Judged]:
        text = self.response(query, prompt)
        if text is None:
            return self.plug.failed(
                f"the query does not begin with its prompt ({prompt[:60]!r} ...): it was cut to fit into --data.max_len, or the "
                "tokenizer does not give it back as it was"
            )
        return self._single.submit(Sample(self._read_prompt(prompt), text, label, {"rendered": prompt}))

    def response(self, query: str, prompt: str) -> str | None:
        """What the model added to its prompt, without the special tokens that end it; None if the query begins differently."""
        if not query.startswith(prompt):
            return None
        text = query[len(prompt) :]
        while text.rstrip().endswith(self._endings):
            text = text.rstrip()
            ending = max((one for one in self._endings if text.endswith(one)), key=len)
            text = text[: -len(ending)]
        return text

    def _answer(self, judged: Sequence[Judged]) -> dict[str, Any]:
        import torch

        values = torch.tensor([one.values[0] for one in judged], dtype=torch.float32)
        figures = [self.plug.figures(one) for one in judged]
        logs = {name: torch.tensor([one[name] for one in figures]) for name in figures[0]} if figures else {}
        return {"rewards": values, "scores": values.clone(), "extra_logs": logs}


def openrlhf_reward(
    reward: str | BaseReward | Callable[..., Any],
    *,
    unjudged: float | Literal["raise"] = "raise",
    endings: Sequence[str] = ENDINGS,
    read_prompt: Callable[[str], Prompt] = str,
    seed: int = 0,
    engine: str | None = None,
    options: EngineOptions | None = None,
) -> OpenRlhfReward:
    """A reward function for OpenRLHF: a file with `reward_func = openrlhf_reward("math")`.

    reward: a plaudit reward, a plain function, or what `--reward` takes (with `engine` and `options`, as `--engine`). Labels are
    the references. unjudged: what a sample is worth that could not be judged; by default the call raises, which OpenRLHF logs
    and then ends at the first batch without rewards. endings: special tokens that are cut from the end of a response.
    read_prompt: what a judge is to see of a prompt, given the text that the model saw (its chat template included).
    Raises SpecError if no reward is named, UserError if it compares responses: OpenRLHF asks for one sample at a time.
    """
    if unjudged is None:
        raise UserError('OpenRLHF needs a number for every sample: give unjudged=NUMBER, or "raise"')
    plug = Plug(open_reward(reward, engine=engine, options=options), unjudged, seed=seed)
    return OpenRlhfReward(plug, endings=endings, read_prompt=read_prompt)
