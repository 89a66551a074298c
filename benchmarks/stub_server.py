"""A real local HTTP server that speaks the OpenAI protocol, answers at once, and misbehaves on request.

    python -m benchmarks.stub_server --port 0 --text "The verdict is A."

prints one JSON line with its port, then serves. Benchmarks use it as it is; tests ask single requests to misbehave by
writing `[behave: WORD WORD ...]` into the prompt: the n-th attempt of that very prompt meets the n-th word, and the last
word stays. Words:

    ok            the fixed text                        echo      the prompt itself as the answer
    429  500 ...  that status code                      429+0.3   with `Retry-After: 0.3`
    slow=0.5      answers after so many seconds         quota     429 with the code insufficient_quota
    cut           whole answer, half of the JSON        close     half of the answer, then closes the connection
    reset         closes without any answer             empty     no choices
    null          no text in the message                length    finish_reason "length"
    long          400 context_length_exceeded           nousage   without token counts
    nologprobs    without log-probabilities             nan       log-probabilities that are NaN
    leak          401 that repeats the Authorization header
    die           the whole server process ends at once
    top=Yes:-0.1,No:-2.5                                exactly these top tokens

`GET /stats` tells what was seen: requests, most in flight at once, the last body. `POST /reset` forgets it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

BEHAVE = re.compile(r"\[behave: ([^\]]+)\]")
TOKENS = [spelling for word in ("Yes", "No", "A", "B", "1", "2", "3", "4", "5") for spelling in (word, " " + word)]
DEFAULT_TOP = {token: -0.5 - 0.25 * place for place, token in enumerate(TOKENS)}


@dataclass
class Stub:
    """What the server answers and what it has seen. texts: fixed text by model name, `text` for every other model."""

    text: str = "Yes"
    texts: dict[str, str] = field(default_factory=dict)
    key: str = ""
    models: bool = True
    requests: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    last_body: Any = None
    attempts: Counter[str] = field(default_factory=Counter)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request of the server comes through here."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await self._route(request)
        finally:
            self.in_flight -= 1

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/stats":
            seen = {"requests": self.requests, "max_in_flight": self.max_in_flight, "last_body": self.last_body}
            return _json(seen)
        if request.path == "/reset":
            self.requests = self.max_in_flight = 0
            self.attempts.clear()
            return _json({})
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}", "invalid_api_key")
        if request.path.endswith("/models"):
            return _json({"object": "list", "data": [{"id": "stub"}]}) if self.models else _error(404, "no such route")
        if not request.path.endswith("/completions"):
            return _error(404, "no such route")
        self.requests += 1
        raw = await request.read()
        body = self.last_body = json.loads(raw)
        return await self._behave(request, body) if b"[behave: " in raw else _json(self.answer(body))

    async def _behave(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        prompt = prompt_of(body)
        words = BEHAVE.search(prompt)
        steps = words.group(1).split() if words else ["ok"]
        word = steps[min(self.attempts[prompt], len(steps) - 1)]
        self.attempts[prompt] += 1
        if word == "die":
            os._exit(1)
        if word == "reset":
            assert request.transport is not None
            request.transport.abort()
        if word.startswith("slow="):
            await asyncio.sleep(float(word[5:]))
        if word[0].isdigit():
            code, _, after = word.partition("+")
            return _error(int(code), f"told to answer {code}", headers={"Retry-After": after} if after else {})
        if word in REFUSALS:
            code_number, message, kind = REFUSALS[word]
            return _error(code_number, message.format(auth=request.headers.get("Authorization", "")), kind)
        answer = json.dumps(self._bent(word, body))
        if word == "cut":
            return web.Response(text=answer[: len(answer) // 2], content_type="application/json")
        if word == "close":
            return await _half(request, answer)
        return web.Response(text=answer, content_type="application/json")

    def _bent(self, word: str, body: dict[str, Any]) -> dict[str, Any]:
        top = {name: float(value) for name, value in re.findall(r"([^:,]+):(-?[\d.]+)", word[4:])} if word[:4] == "top=" else None
        answer = self.answer(body, text=prompt_of(body) if word == "echo" else None, top=top)
        choice = answer["choices"][0]
        if word == "empty":
            answer["choices"] = []
        elif word == "nousage":
            del answer["usage"]
        elif word == "length":
            choice["finish_reason"] = "length"
        elif word == "nologprobs":
            choice["logprobs"] = None
        elif word == "null":
            choice["message"] = {"role": "assistant", "content": None}
        elif word == "nan":
            choice["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = float("nan")
        return answer

    def answer(self, body: dict[str, Any], text: str | None = None, top: dict[str, float] | None = None) -> dict[str, Any]:
        """The protocol's answer to a well-formed request."""
        text = self.texts.get(body.get("model", ""), self.text) if text is None else text
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        top = DEFAULT_TOP if top is None else top
        if "messages" in body:
            kind = "chat.completion"
            choice["message"] = {"role": "assistant", "content": text}
            if body.get("tools"):
                function = {"name": body["tools"][0]["function"]["name"], "arguments": text}
                call = {"id": "call_0", "type": "function", "function": function}
                choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
            if body.get("logprobs"):
                shown = [{"token": name, "logprob": value} for name, value in top.items()][: body.get("top_logprobs", 0)]
                choice["logprobs"] = {"content": [{**max(shown, key=lambda entry: entry["logprob"]), "top_logprobs": shown}]}
        else:
            kind = "text_completion"
            choice["text"] = f"{body['prompt']} {text}" if body.get("echo") else text
            if body.get("echo"):
                choice["logprobs"] = echoed(choice["text"])
            elif body.get("logprobs"):
                best = max(top, key=lambda name: top[name])
                choice["logprobs"] = {"tokens": [best], "token_logprobs": [top[best]], "top_logprobs": [top]}
        more: dict[str, Any] = {}
        if body.get("prompt_logprobs") is not None and body.get("continue_final_message"):
            told = echoed(body["messages"][-1]["content"])
            pairs = zip(told["tokens"], told["token_logprobs"], strict=True)
            more["prompt_logprobs"] = [value and {"7": {"logprob": value, "decoded_token": name}} for name, value in pairs]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        return {
            "id": "stub",
            "object": kind,
            "created": 0,
            "model": body.get("model", ""),
            "choices": [choice],
            "usage": usage,
            **more,
        }


REFUSALS = {
    "long": (400, "This model's maximum context length is 4096 tokens, you asked for more.", "context_length_exceeded"),
    "quota": (429, "You exceeded your current quota.", "insufficient_quota"),
    "leak": (401, "Incorrect API key provided: {auth}", "invalid_api_key"),
}


def prompt_of(body: dict[str, Any]) -> str:
    """The plain prompt, or the last user message."""
    if "prompt" in body:
        return str(body["prompt"])
    return next((str(message["content"]) for message in reversed(body["messages"]) if message["role"] == "user"), "")


def echoed(text: str) -> dict[str, Any]:
    """Words with the space before them as tokens; each has the log-probability of minus a tenth of its length."""
    tokens = re.findall(r"\s*\S+|\s+$", text)
    return {"tokens": tokens, "token_logprobs": [None, *(-len(token) / 10 for token in tokens[1:])]}


def _json(answer: Any) -> web.Response:
    return web.Response(body=json.dumps(answer).encode(), content_type="application/json")


def _error(code: int, message: str, kind: str = "", headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": kind}}, status=code, headers=headers)


async def _half(request: web.BaseRequest, answer: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(answer)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(answer[: len(answer) // 2].encode())
    assert request.transport is not None
    request.transport.close()
    return response


async def serve(stub: Stub, port: int) -> None:
    """Serve until cancelled, on 127.0.0.1; prints the port as one JSON line once it listens."""
    runner = web.ServerRunner(web.Server(stub.handle, handler_cancellation=True, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    assert runner.addresses
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Command line of the stub."""
    parser = argparse.ArgumentParser(description="Local OpenAI-compatible stub server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--text", default="Yes")
    parser.add_argument("--texts", default="{}", help="JSON: fixed text by model name")
    parser.add_argument("--key", default="", help="the only API key that is accepted")
    parser.add_argument("--no-models", action="store_true", help="answer 404 on /models")
    given = parser.parse_args()
    stub = Stub(text=given.text, texts=json.loads(given.texts), key=given.key, models=not given.no_models)
    asyncio.run(serve(stub, given.port))


if __name__ == "__main__":
    main()
