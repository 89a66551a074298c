"""The endpoints: FastAPI around a `Service`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from plaudit import __version__
from plaudit.data.row import Row
from plaudit.serve.guard import NOTES, Guard
from plaudit.serve.guard import problem_headers as problem_headers
from plaudit.serve.host import Kind
from plaudit.serve.requests import (
    Asking,
    CompareAnswer,
    CompareRequest,
    Problem,
    RankAnswer,
    RankRequest,
    RewardList,
    ScoreAnswer,
    ScoreRequest,
    State,
)
from plaudit.serve.service import Answer, Service
from plaudit.serve.settings import ClientGone, Refused

Responses = dict[int | str, dict[str, Any]]
REFUSALS = {
    400: "Not whole JSON.",
    401: "No token, or a wrong one.",
    404: "No reward of that name.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    422: "Not what this endpoint takes.",
    429: "Too much is waiting already; see Retry-After.",
    500: "The reward raised an error.",
    503: "Not ready, shutting down, or something that the reward needs is gone.",
    504: "Not judged in time; what had not begun was dropped.",
    507: "The disk of the verdict store is full.",
}


def refusals(*codes: int) -> Responses:
    """The OpenAPI description of refusals."""
    return {code: {"model": Problem, "description": REFUSALS[code]} for code in codes or REFUSALS}


def create_app(
    service: Service, *, tokens: Sequence[str] = (), log_texts: bool = False, unscored: float | None = None
) -> FastAPI:
    """The application for a service that is started (or will be, before it is called). unscored: see `compat.Numbers`."""
    from plaudit.serve.compat import add_compatible

    app = FastAPI(
        title="plaudit",
        version=__version__,
        description="Rewards over HTTP. A number that could not be had is null, and its status says why.",
        openapi_tags=[{"name": "rewards"}, {"name": "compatible"}, {"name": "operation"}],
    )
    app.state.service = service
    app.add_middleware(Guard, service=service, tokens=tokens, log_texts=log_texts)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(ClientGone, _on_gone)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_error)
    _add_operation(app, service)
    _add_judging(app, service)
    add_compatible(app, service, unscored=unscored)
    return app


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["operation"])
    async def health() -> State:
        """Whether the process is up."""
        return State(status="ok")

    @app.get("/ready", tags=["operation"], responses=refusals(503))
    async def ready() -> State:
        """Whether to send requests: 503 while loading, shutting down, or without the verdict store."""
        if (problem := service.problem()) is not None:
            raise Refused(503, problem)
        return State(status="ok")

    @app.get("/metrics", tags=["operation"], response_class=Response, responses={**refusals(401), 200: _METRICS})
    async def metrics() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/rewards", tags=["rewards"], responses=refusals(401, 503))
    async def rewards() -> RewardList:
        """What this service serves."""
        infos = (vars(served.info) for served in service.rewards.values())
        entries = [{name: value for name, value in info.items() if name != "shares_engine"} for info in infos]
        return RewardList.model_validate({"plaudit": __version__, "rewards": entries})


_METRICS = {"content": {"text/plain": {"schema": {"type": "string"}}}}


def _add_judging(app: FastAPI, service: Service) -> None:
    options: dict[str, Any] = {"tags": ["rewards"], "responses": refusals(), "response_model_exclude_unset": True}

    @app.post("/v1/score", response_model=ScoreAnswer, **options)
    async def score(request: Request, asking: ScoreRequest) -> Any:
        """Score responses one by one."""
        answer = await judge(service, request, asking, "score")
        items = [row["responses"][0] for row in answer.rows]
        return _answer(answer, asking, items)

    @app.post("/v1/compare", response_model=CompareAnswer, **options)
    async def compare(request: Request, asking: CompareRequest) -> Any:
        """Say for each pair how likely the first is better."""
        answer = await judge(service, request, asking, "compare")
        return _answer(answer, asking, [row["pairs"][0] for row in answer.rows])

    @app.post("/v1/rank", response_model=RankAnswer, **options)
    async def rank(request: Request, asking: RankRequest) -> Any:
        """Order the responses of each item."""
        answer = await judge(service, request, asking, "rank")
        items = [{**row, "order": order(row["responses"], answer.reward.higher_is_better)} for row in answer.rows]
        return _answer(answer, asking, items)


async def judge(service: Service, request: Request, asking: Asking, kind: Kind) -> Answer:
    """Judge what a request of our own endpoints asks for."""
    rows = asking.rows()  # type: ignore[attr-defined]  # every request that can be sent has it
    how: dict[str, Any] = {"seed": asking.seed, "verdicts": asking.verdicts, "seconds": asking.timeout_seconds}
    return await judge_rows(service, request, asking.reward, rows, kind, **how)


async def judge_rows(
    service: Service,
    request: Request,
    reward: str | None,
    rows: Sequence[Row],
    kind: Kind,
    *,
    seed: int = 0,
    verdicts: bool = False,
    seconds: float | None = None,
) -> Answer:
    """`Service.judge` for as long as the client is there; the access log says which reward it was and what came out.

    Raises Refused or ClientGone, which the application answers.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    note(request, reward=reward, items=len(rows))
    answer = await service.judge(reward, rows, kind, seed=seed, verdicts=verdicts, seconds=seconds, gone=gone)
    note(request, reward=answer.reward.name, statuses=dict(answer.counts()))
    return answer


def note(request: Request, **said: Any) -> None:
    """Leave something in the access log; never texts."""
    request.scope.get(NOTES, {}).update(said)


def order(responses: Sequence[dict[str, Any]], higher_is_better: bool) -> list[int] | None:
    """Positions, best first, the earlier of equals first; None unless every response has a number."""
    values = [one["value"] for one in responses]
    if any(value is None for value in values):
        return None
    sign = -1.0 if higher_is_better else 1.0
    return sorted(range(len(values)), key=lambda place: sign * values[place])


def _answer(answer: Answer, asking: Any, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    named = [one if item.id is None else {"id": item.id, **one} for item, one in zip(asking.items, items, strict=True)]
    return {
        "reward": answer.reward.name,
        "fingerprint": answer.reward.fingerprint,
        "seed": answer.seed,
        "counts": dict(answer.counts()),
        "items": named,
    }


# -- refusals ------------------------------------------------------------------------------------------------------------------


def problem(code: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A refusal as JSON; a sentence may quote anything that a client sent."""
    return JSONResponse({"detail": sentence.encode("utf-8", "replace").decode()}, code, headers)


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    note(request, refused=error.code)
    return problem(error.code, error.sentence, problem_headers(error))


async def _on_gone(request: Request, _error: Exception) -> Response:
    note(request, gone=True)
    return Response(status_code=499)  # nobody reads it; the log does


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), dict(error.headers or {}))


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"][1:])
    if first["type"] == "json_invalid":
        return problem(400, f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])} at character {place}")
    if not place and "content-type" not in {name.lower() for name in _request.headers}:
        return problem(422, "send the header 'Content-Type: application/json' and a JSON body")
    more = len(error.errors()) - 1
    return problem(422, f"{place or 'the body'}: {first['msg']}" + (f" (and {more} more)" if more else ""))


async def _on_error(_request: Request, error: Exception) -> Response:
    return problem(500, f"{type(error).__name__}: this is a mistake of plaudit; the service goes on")
