"""`RemoteReward`: a reward that asks a plaudit service (`plaudit serve`), so that the model runs elsewhere and many share it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from plaudit.engines.http_client import Call, JsonClient, RequestProblem
from plaudit.rewards.base import BaseReward, Native
from plaudit.types import Batch, Context, EngineError, Preferences, Scores, SpecError, Status, Verdict

if TYPE_CHECKING:
    from torch import Tensor

NAN = float("nan")
Record = Mapping[str, Any]


class RemoteReward(BaseReward):
    """A reward of a plaudit service, under that reward's own name, fingerprint and seed rule.

    So verdicts that were stored here and there are the same verdicts: what was judged with the reward itself is found again.
    Statuses, parts, spreads and verdicts come through as the service says them; rows that get no answer are UNREACHABLE,
    TIMED_OUT or FAILED, with the reason in their verdict.

    url: of the service, without a path. name: of the reward there; may be left out where it serves only one. token: default
    is $PLAUDIT_TOKEN; it appears in no message. concurrency: most requests in flight; items_per_request: rows, pairs, or
    groups in one of them. timeout: seconds of one attempt. retries: for 408, 409, 429 and 5xx, with `Retry-After` honoured.
    The service is first asked when something about the reward has to be known. Raises SpecError for an unusable address.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        token: str | None = None,
        *,
        concurrency: int = 8,
        items_per_request: int = 32,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 0.5,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError(f"a service is named by its address, such as http://localhost:8080, not {url!r}")
        if parts.username or parts.password:
            raise SpecError("the service's address must not hold a password: give the token as token or in PLAUDIT_TOKEN")
        self.url, self._asked_name, self._info = url.rstrip("/"), name, None
        self.items_per_request, self.batch_size = items_per_request, 4 * concurrency * items_per_request
        secret = (os.environ.get("PLAUDIT_TOKEN", "") if token is None else token).strip()
        self._client = JsonClient(
            self.url,
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            secret=secret,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
        )

    # -- what it is: the service says it ---------------------------------------------------------------------------------------

    @property
    def info(self) -> Record:
        """The service's entry for the reward: name, title, fingerprint, native, uses_seed, higher_is_better.

        Raises EngineError if the service cannot be asked or is not one, SpecError if it has no such reward.
        """
        if self._info is None:
            self._info = self._find()
        return self._info

    _info: Record | None

    def _find(self) -> Record:
        (entries,) = self._client.post_all([Call("/v1/rewards", None, _read_entries)], lambda: None)
        if isinstance(entries, RequestProblem):
            raise EngineError(f"the service at {self.url} cannot be used: {entries.detail}")
        names = ", ".join(str(entry["name"]) for entry in entries)
        if self._asked_name is None and len(entries) != 1:
            raise SpecError(f"the service at {self.url} has {names}: name one of them, such as {self.url}#{entries[0]['name']}")
        for entry in entries:
            if self._asked_name in (None, entry["name"]):
                return entry
        raise SpecError(f"the service at {self.url} has no reward '{self._asked_name}': it has {names}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The reward's own name, which stored verdicts carry."""
        return str(self.info["title"])

    @property
    def native(self) -> Native:
        """How the reward judges."""
        native: Native = self.info["native"]
        return native

    @property
    def uses_seed(self) -> bool:  # type: ignore[override]
        """Whether a seed can change the reward's numbers."""
        return bool(self.info["uses_seed"])

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether larger numbers are better."""
        return bool(self.info["higher_is_better"])

    def fingerprint(self) -> str:
        """The reward's own fingerprint, as the service tells it."""
        return str(self.info["fingerprint"])

    def check(self) -> None:
        """Ask the service what it serves. Raises EngineError or SpecError; see `info`."""
        self._info = None
        _ = self.info

    def __repr__(self) -> str:
        return f"RemoteReward({self.url!r}, {self._asked_name!r})"  # without asking the service

    def close(self) -> None:
        """Close the connections; they are opened again when the reward is next used."""
        self._client.close()

    # -- judging ---------------------------------------------------------------------------------------------------------------

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """One number a row. A reward that compares or ranks needs groups, as `score_group` does."""
        if self.native != "score":
            return super().score(batch, ctx) if batch.groups is None else self.score_group(batch, ctx)
        items = [{**_item(batch, [row]), "response": _response(batch, row)} for row in range(len(batch))]
        return _scores(self._ask("/v1/score", items, ctx))

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """One probability a pair. The two rows of a pair must share prompt, reference and other columns."""
        import torch

        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        items = [{**_item(batch, [a, b]), "first": _response(batch, a), "second": _response(batch, b)} for a, b in pairs]
        records = self._ask("/v1/compare", items, ctx)
        ties = [record.get("tie") for record in records]
        return Preferences(
            first,
            second,
            torch.tensor([_number(record["prob"]) for record in records], dtype=torch.float32),
            status=_status(records),
            tie=torch.tensor([_number(tie) for tie in ties]) if any(tie is not None for tie in ties) else None,
            verdicts=[_verdicts(record) for record in records],
        )

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """One number a row, within its group."""
        groups = batch.group_rows()
        items = [{**_item(batch, rows), "responses": [_response(batch, row) for row in rows]} for rows in groups]
        records = self._ask("/v1/rank", items, ctx)
        of_row: dict[int, Record] = {}
        for rows, record in zip(groups, records, strict=True):
            members = record.get("responses") or [record] * len(rows)
            of_row.update(zip(rows, members, strict=True))
        return _scores([of_row[row] for row in range(len(batch))])

    def _ask(self, path: str, items: Sequence[Record], ctx: Context | None) -> list[Record]:
        """A record for each item: the service's, or one with the status of the request that brought none."""
        ctx, size = ctx or Context(), self.items_per_request
        pieces = [items[start : start + size] for start in range(0, len(items), size)]
        shared = {"reward": self.info["name"], "seed": ctx.seed, "verdicts": True}
        calls = [Call(path, {**shared, "items": list(piece)}, _reader(len(piece))) for piece in pieces]
        answers = self._client.post_all(calls, lambda: ctx.budget.spend(network_calls=1))
        records: list[Record] = []
        for piece, answer in zip(pieces, answers, strict=True):
            if isinstance(answer, RequestProblem):
                records.extend([_problem_record(answer)] * len(piece))
                continue
            if answer["fingerprint"] != self.fingerprint():
                raise EngineError(f"the service at {self.url} changed its reward '{self.info['name']}' during the run")
            records.extend(answer["items"])
        return records


def _read_entries(answer: Any) -> list[Record]:
    """The entries of /v1/rewards, at least one."""
    entries = answer.get("rewards") if isinstance(answer, dict) else None
    needed = {"name", "title", "fingerprint", "native", "uses_seed", "higher_is_better"}
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) and needed <= set(one) for one in entries):
        raise RequestProblem(Status.FAILED, "what answers there is not a plaudit service")
    return list(entries)


def _reader(count: int) -> Callable[[Any], Record]:
    def read(answer: Any) -> Record:
        items = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(items, list) or len(items) != count or "fingerprint" not in answer:
            raise RequestProblem(Status.FAILED, f"the service did not answer about {count} items", retryable=True)
        found: Record = answer
        return found

    return read


def _item(batch: Batch, rows: Sequence[int]) -> dict[str, Any]:
    """What an item has besides its responses. Raises SpecError if its rows do not share it: a request could not say so."""
    item, *others = [_shared(batch, row) for row in rows]
    if any(other != item for other in others):
        raise SpecError("responses are compared over HTTP only where they share prompt, reference, user and other columns")
    if batch.finish is not None and any(batch.finish[row] != "complete" for row in rows):
        item["finish"] = [batch.finish[row] for row in rows]
    return item


def _shared(batch: Batch, row: int) -> dict[str, Any]:
    item: dict[str, Any] = {"prompt": batch.prompts[row]}
    if batch.references is not None and batch.references[row] is not None:
        item["reference"] = batch.references[row]
    if batch.users is not None and batch.users[row] is not None:
        item["user"] = batch.users[row]
    extras = {name: column[row] for name, column in batch.extras.items() if column[row] is not None}
    return {**item, "extras": extras} if extras else item


def _response(batch: Batch, row: int) -> Any:
    """One response. Raises SpecError for what is no text: pictures and objects are not sent."""
    response = batch.require_responses()[row]
    if not isinstance(response, str | list | tuple):
        raise SpecError(f"a service judges texts and chats, not {type(response).__name__}: run the reward here")
    return response


def _number(value: float | None) -> float:
    return NAN if value is None else value


def _status(records: Sequence[Record]) -> Tensor:
    import torch

    return torch.tensor([Status[record["status"].upper()] for record in records], dtype=torch.int8)


def _scores(records: Sequence[Record]) -> Scores:
    import torch

    names = dict.fromkeys(name for record in records for name in record.get("parts") or ())
    spreads = [record.get("spread") for record in records]
    return Scores(
        torch.tensor([_number(record["value"]) for record in records], dtype=torch.float32),
        _status(records),
        {name: torch.tensor([_number((record.get("parts") or {}).get(name)) for record in records]) for name in names},
        spread=torch.tensor([_number(one) for one in spreads]) if any(one is not None for one in spreads) else None,
        verdicts=[_verdicts(record) for record in records],
    )


def _verdicts(record: Record) -> list[Verdict]:
    said = []
    for one in record.get("verdicts") or ():
        fields = {name: value for name, value in one.items() if value is not None}
        if "order" in fields:
            fields["order"] = tuple(fields["order"])
        said.append(Verdict(**{**fields, "status": Status[one["status"].upper()]}))
    if not said and record.get("detail"):
        said.append(Verdict(status=Status[record["status"].upper()], detail=record["detail"]))
    return said


def _problem_record(problem: RequestProblem) -> Record:
    return {"value": None, "prob": None, "status": problem.status.label, "detail": problem.detail}
