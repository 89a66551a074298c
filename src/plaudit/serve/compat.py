"""Endpoints that other tools' clients speak already; each is a thin converter onto the service's own queues.

| endpoint | who asks |
|---|---|
| POST /get_reward | OpenRLHF's remote reward model |
| POST /compute_score | a verl reward function that posts the arguments it is called with |
| POST /classify | verl's reward loop, in place of a reward model behind vLLM |
| POST /rerank, /v1/rerank, /v2/rerank | clients of Cohere, Jina, vLLM; of text-embeddings-inference (with `texts`) |

The protocols know only numbers; `--unscored` says what is sent for an item without one, and by default nothing is.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import Counter as Count

from plaudit.serve.app import judge_rows, note, refusals
from plaudit.serve.compat_shapes import (
    Asked,
    ClassifyRequest,
    NotNumbers,
    OpenRLHFRequest,
    RerankRequest,
    VerlRequest,
    classify_answer,
    classify_rows,
    numbers,
    openrlhf_answer,
    openrlhf_rows,
    rerank_answer,
    rerank_rows,
    verl_answer,
    verl_rows,
)
from plaudit.serve.guard import problem_headers
from plaudit.serve.host import Kind, RewardInfo
from plaudit.serve.requests import SEEDS
from plaudit.serve.service import Service

RewardName = Annotated[
    str | None, Query(max_length=200, description="A name from /v1/rewards; may be left out for the only one.")
]
Seed = Annotated[int, Query(ge=0, lt=SEEDS, description="The only source of randomness of rewards that draw.")]


class Numbers:
    """Judges rows for the compatible endpoints, and replaces what is missing by the user's own number, counted.

    unscored: that number; None refuses an answer that would lack one.
    """

    def __init__(self, service: Service, unscored: float | None) -> None:
        self.service, self.unscored = service, unscored
        self._sent = Count(
            "plaudit_unscored_sent",
            "Items that were answered with the number of --unscored, by the status that they have.",
            ["reward", "status"],
            registry=service.metrics.registry,
        )

    @property
    def marked(self) -> bool:
        """Whether answers say which of their numbers were put in."""
        return self.unscored is not None

    async def of(self, request: Request, info: RewardInfo, asked: Asked, seed: int) -> tuple[list[float], list[int]]:
        """(a number for every item, the items that got the user's own). Raises Refused, NotNumbers or ClientGone."""
        kind: Kind = "score" if info.native == "score" else "rank"
        answer = await judge_rows(self.service, request, info.name, asked.rows, kind, seed=seed)
        records = [answer.rows[row]["responses"][place] for row, place in asked.places]
        values, missing = numbers(records, self.unscored)
        for status, count in Counter(records[item]["status"] for item in missing).items():
            self._sent.labels(info.name, status).inc(count)
        if missing:
            note(request, unscored=len(missing))
        return values, missing


def add_compatible(app: FastAPI, service: Service, *, unscored: float | None = None) -> None:
    """Add the endpoints to the service's application."""
    found = Numbers(service, unscored)
    app.add_exception_handler(NotNumbers, _on_not_numbers)
    _add_trainers(app, service, found)
    _add_rerank(app, service, found)


def _add_trainers(app: FastAPI, service: Service, found: Numbers) -> None:
    options: dict[str, Any] = {"tags": ["compatible"], "responses": refusals()}

    @app.post("/get_reward", **options)
    async def get_reward(request: Request, asking: OpenRLHFRequest, reward: RewardName = None, seed: Seed = 0) -> dict[str, Any]:
        """OpenRLHF's remote reward model."""
        info = service.find(reward)
        asked = openrlhf_rows(asking, grouped=info.native != "score")
        values, missing = await found.of(request, info, asked, seed)
        return openrlhf_answer(values, missing, marked=found.marked)

    @app.post("/compute_score", **options)
    async def compute_score(request: Request, asking: VerlRequest, reward: RewardName = None, seed: Seed = 0) -> Any:
        """The arguments of verl's `compute_score`, and what it may return."""
        info = service.find(reward)
        values, missing = await found.of(request, info, verl_rows(asking, grouped=info.native != "score"), seed)
        return verl_answer(asking, values, missing, marked=found.marked)

    @app.post("/classify", **options)
    async def classify(request: Request, asking: ClassifyRequest, seed: Seed = 0) -> dict[str, Any]:
        """vLLM's classification endpoint, as verl's reward loop asks it; `model` names the reward."""
        info = service.find(asking.model)
        values, _ = await found.of(request, info, classify_rows(asking), seed)
        return classify_answer(values, info.name)


def _add_rerank(app: FastAPI, service: Service, found: Numbers) -> None:
    async def rerank(request: Request, asking: RerankRequest, seed: Seed = 0) -> Any:
        """Documents in the order of the reward, the query as the prompt; `model` names the reward."""
        info = service.find(asking.model)
        values, _ = await found.of(request, info, rerank_rows(asking, grouped=info.native != "score"), seed)
        return rerank_answer(asking, values, info.name, higher_is_better=info.higher_is_better)

    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        name = "rerank" + path.removesuffix("/rerank").replace("/", "_")
        app.add_api_route(path, rerank, methods=["POST"], name=name, tags=["compatible"], responses=refusals())


async def _on_not_numbers(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotNumbers)
    note(request, refused=error.code, unscored=len(error.rows))
    return JSONResponse(error.body(), error.code, problem_headers(error))
