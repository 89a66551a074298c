"""`OpenAIEngine`: a model behind any OpenAI-compatible server (OpenAI, vLLM, llama.cpp, Ollama, a gateway ...).

What such a server can and cannot do is stated where it matters: probabilities come from the top tokens that it shows, a
forced prefix is only continued where the server can, and the weights behind a name may change without notice.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from plaudit.engines.http_client import Call, JsonClient, RequestProblem
from plaudit.engines.openai_answers import (
    EchoAnswer,
    TextAnswer,
    TopAnswer,
    Usage,
    option_log_prob,
    read_echo,
    read_prompt,
    read_text,
    read_top,
    told_usage,
)
from plaudit.types import (
    Budget,
    ContinuationLogProbs,
    Engine,
    EngineError,
    Generation,
    NextToken,
    Request,
    Sampling,
    SpecError,
    Status,
)

Answer = TypeVar("Answer", TextAnswer, TopAnswer, EchoAnswer)


class OpenAIEngine(Engine):
    """Chat requests go to `/chat/completions`, plain-string requests to `/completions`.

    model: the name that the server knows. base_url: up to and including the version (`.../v1`).
    api_key: default is the environment variable OPENAI_API_KEY; may be absent for a local server. It appears in no repr,
    message, or version. concurrency: most requests in flight, over all threads. timeout: seconds of one attempt.
    retries: attempts after the first, for 408, 409, 429, 5xx, lost connections, time-outs, cut-off JSON and empty choices,
    with exponential back-off from `backoff` seconds and `Retry-After` honoured; never for 400, 401, 403, 404 and 422.
    top_logprobs: how many top tokens to ask for (OpenAI and vLLM allow 20). price_in, price_out: money per million tokens.
    extra: more fields of the request body. They win over plaudit's own, and a value of None leaves a field out: a server
    that wants `max_completion_tokens` gets `{"max_tokens": None, "max_completion_tokens": 512}`.

    Forced prefixes. With `"continue_final_message": True` in `extra` (vLLM) the prefix is sent as a last assistant message
    that the model continues. Otherwise it is sent as a last assistant message all the same, and it depends on the server
    whether the answer continues it; one that repeats the prefix has it removed.

    `version` is a hash of model, base_url, top_logprobs and extra. The server may put other weights behind the same name:
    stored verdicts then mix two models, so use a dated model name where there is one.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        retries: int = 5,
        backoff: float = 0.5,
        top_logprobs: int = 20,
        price_in: float = 0.0,
        price_out: float = 0.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises SpecError if base_url is not an http(s) address or carries a password."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError(f"base_url must be an http(s) address such as http://localhost:8000/v1, not {base_url!r}")
        if parts.username or parts.password:
            raise SpecError("base_url must not hold a user name or password: give the key as api_key")
        self.name = f"openai:{model}"
        self.model, self.base_url, self.concurrency = model, base_url.rstrip("/"), concurrency
        self.rows_at_once = 16 * concurrency  # a batch ends with its slowest call: many calls hide the wait
        self.top_logprobs, self.price_in, self.price_out = top_logprobs, price_in, price_out
        self.extra = dict(extra or {})
        key = (os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key).strip()
        self._client = JsonClient(
            self.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            secret=key,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
        )

    @property
    def version(self) -> str:
        """Hash of model name, base_url, top_logprobs and extra; see the class on what it cannot know."""
        parts = ["openai_api", self.model, self.base_url, self.top_logprobs, self.extra]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def check(self) -> None:
        """One GET of `/models`. Raises EngineError if the server cannot be reached, or refuses the key (401, 403).

        Any other answer shows that a server is there: many gateways do not serve `/models`.
        """
        code = self._client.get_code("/models")
        if code in (401, 403):
            raise EngineError(f"the server at {self.base_url} refused the API key ({code}): set OPENAI_API_KEY or give api_key")

    def generate(self, requests: Sequence[Request], how: Sampling, *, budget: Budget | None = None) -> list[Generation]:
        """Continue each request. The seed is sent along; whether it is honoured is the server's matter."""
        settings: dict[str, Any] = {"max_tokens": how.max_tokens, "temperature": how.temperature, "seed": how.seed}
        if how.top_p < 1.0:
            settings["top_p"] = how.top_p
        if how.stop:
            settings["stop"] = list(how.stop)
        calls = [self._call(request, settings, partial(read_text, asked=request), budget) for request in requests]
        return [self._generation(*pair) for pair in zip(requests, self._post(calls, budget), strict=True)]

    def next_token(
        self, requests: Sequence[Request], options: Sequence[Sequence[str]], *, grad: bool = False, budget: Budget | None = None
    ) -> NextToken:
        """Log-probability of each option among the top tokens that the server shows; see `NextToken.floor` for the rest.

        A spelling counts if it equals the text of a shown token exactly. Raises NotImplementedError for grad=True.
        """
        import torch

        _refuse_gradient(grad)
        chat = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": self.top_logprobs}
        plain = {"max_tokens": 1, "temperature": 0.0, "logprobs": self.top_logprobs}
        calls = [
            self._call(request, plain if isinstance(request.messages, str) else chat, partial(read_top, asked=request), budget)
            for request in requests
        ]
        answers = self._post(calls, budget)
        rows = [
            [option_log_prob(answer, option) if isinstance(answer, TopAnswer) else math.nan for option in options]
            for answer in answers
        ]
        floors = [answer.floor if isinstance(answer, TopAnswer) else math.nan for answer in answers]
        status, detail = _outcome(answers)
        log_probs = torch.tensor(rows, dtype=torch.float32).reshape(len(requests), len(options))
        return NextToken(log_probs, status, detail, floor=torch.tensor(floors, dtype=torch.float32))

    def log_probs(
        self, requests: Sequence[Request], continuations: Sequence[str], *, grad: bool = False, budget: Budget | None = None
    ) -> ContinuationLogProbs:
        """Through `/completions` with `echo` (vLLM serves it, few others do), for plain-string requests.

        Chat requests need a server that continues a prefix (`"continue_final_message": True` in `extra`: vLLM), which then tells
        the log-probabilities of the prompt; from others they come back FAILED. Raises NotImplementedError for grad=True.
        """
        import torch

        _refuse_gradient(grad)
        settings = {"max_tokens": 1, "temperature": 0.0, "logprobs": 1, "echo": True}
        rows: dict[int, EchoAnswer | RequestProblem] = dict.fromkeys(range(len(requests)), _CHAT_ECHO)
        calls: dict[int, Call[EchoAnswer]] = {}
        for index, (request, continuation) in enumerate(zip(requests, continuations, strict=True)):
            if not continuation:
                rows[index] = _NO_CONTINUATION
            elif isinstance(request.messages, str):
                context = request.messages + request.prefix
                asked = Request(context + continuation)
                read = partial(read_echo, asked=asked, context=context, continuation=continuation)
                calls[index] = self._call(asked, settings, read, budget)
            elif self._continues:
                asked = Request(request.messages, request.prefix + continuation)
                chosen = partial(read_prompt, asked=asked, continuation=continuation)
                calls[index] = self._call(asked, {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}, chosen, budget)
        rows.update(zip(calls, self._post(list(calls.values()), budget), strict=True))
        values = [row.log_probs if isinstance(row, EchoAnswer) else None for row in rows.values()]
        status, detail = _outcome(list(rows.values()))
        return ContinuationLogProbs(
            total=torch.tensor([math.nan if value is None else math.fsum(value) for value in values], dtype=torch.float32),
            tokens=[torch.tensor(value or (), dtype=torch.float32) for value in values],
            status=status,
            detail=detail,
        )

    def close(self) -> None:
        """Close the connections; the engine opens them again when it is next used."""
        self._client.close()

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.model!r}, base_url={self.base_url!r}, concurrency={self.concurrency})"

    def _call(
        self, request: Request, settings: Mapping[str, Any], read: Callable[[Any], Answer], budget: Budget | None
    ) -> Call[Answer]:
        """The HTTP call for one request; what its answer used up is counted even where the answer itself is of no use."""
        body: dict[str, Any] = {"model": self.model}
        if isinstance(request.messages, str):
            path, body["prompt"] = "/completions", request.messages + request.prefix
        else:
            path, body["messages"] = "/chat/completions", list(request.messages)
            if request.prefix:
                body["messages"].append({"role": "assistant", "content": request.prefix})
        body |= {**settings, **self.extra}
        if self._continues and request.prefix and path == "/chat/completions":
            body.setdefault("add_generation_prompt", False)
        else:
            body.pop("continue_final_message", None)
            body.pop("add_generation_prompt", None)
        body = {name: value for name, value in body.items() if value is not None}

        def read_and_count(answer: Any) -> Answer:
            try:
                value = read(answer)
            except RequestProblem:
                self._count(told_usage(answer), budget)
                raise
            self._count(value.usage, budget)
            return value

        return Call(path, body, read_and_count)

    def _post(self, calls: Sequence[Call[Answer]], budget: Budget | None) -> list[Answer | RequestProblem]:
        return self._client.post_all(calls, lambda: budget.spend(network_calls=1) if budget is not None else None)

    def _count(self, usage: Usage | None, budget: Budget | None) -> None:
        if usage is None or budget is None:
            return
        cost = (usage.prompt * self.price_in + usage.completion * self.price_out) / 1e6
        estimated = {"estimated_tokens": usage.estimated} if usage.estimated else {}
        budget.spend(prompt_tokens=usage.prompt, completion_tokens=usage.completion, cost=cost, **estimated)

    @property
    def _continues(self) -> bool:
        return bool(self.extra.get("continue_final_message"))

    def _generation(self, request: Request, answer: TextAnswer | RequestProblem) -> Generation:
        if isinstance(answer, RequestProblem):
            return Generation("", status=answer.status, detail=answer.detail)
        chat = not isinstance(request.messages, str)
        text = answer.text.removeprefix(request.prefix) if chat and not self._continues else answer.text
        return Generation(
            text, finish=answer.finish, prompt_tokens=answer.usage.prompt, completion_tokens=answer.usage.completion
        )


_CHAT_ECHO = RequestProblem(Status.FAILED, "a chat server does not score given continuations; use next_token or a local engine")
_NO_CONTINUATION = RequestProblem(Status.FAILED, "the continuation is empty")


def _refuse_gradient(grad: bool) -> None:
    if grad:
        raise NotImplementedError("a model behind a server gives no gradients: use the local engine")


def _outcome(answers: Sequence[Answer | RequestProblem]) -> tuple[list[Status], list[str]]:
    """(status, detail) of each row."""
    problems = [answer if isinstance(answer, RequestProblem) else None for answer in answers]
    return [p.status if p else Status.OK for p in problems], [p.detail if p else "" for p in problems]
