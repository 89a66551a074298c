"""What the endpoints take and give, as pydantic models: they are the OpenAPI description too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from plaudit.data.row import Row
from plaudit.serve.settings import Refused

Name = Annotated[str, Field(min_length=1, max_length=200)]
SEEDS = 2**31


class Strict(BaseModel):
    """No unknown fields, no guessing of types, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Turn(Strict):
    """One message of a chat."""

    role: str
    content: str


Prompt = str | list[Turn] | dict[str, JsonValue]
Text = str | list[Turn]


class Item(Strict):
    """What every item has. prompt: text, a chat, or named conditions."""

    id: Annotated[str, Field(max_length=200, pattern=r"^[ -~]*$")] | None = Field(None, description="Given back as it is.")
    prompt: Prompt = Field(description="Text, a chat, or named conditions.")
    reference: JsonValue = Field(None, description="The right answer, for rewards that need one.")
    user: Annotated[str, Field(max_length=200)] | None = None
    extras: dict[str, JsonValue] = Field(default_factory=dict, description="Further columns that the reward reads.")
    finish: list[Literal["complete", "truncated", "time_limit"]] | None = Field(
        None, description="How each response ended, where a reward looks at it; one word a response."
    )

    def row(self, number: int, responses: list[Text]) -> Row:
        """The item as a row of the runner. Raises Refused (422) where `finish` does not fit the responses."""
        if self.finish is not None and len(self.finish) != len(responses):
            raise Refused(422, f"item {number}: finish has {len(self.finish)} words for {len(responses)} responses")
        return Row(
            id=self.id or str(number),
            prompt=_plain(self.prompt),
            responses=tuple(_plain(response) for response in responses),
            references=None if self.reference is None else (self.reference,) * len(responses),
            user=self.user,
            finish=None if self.finish is None else tuple(self.finish),
            extras=dict(self.extras),
        )


def _plain(value: Any) -> Any:
    return [turn.model_dump() for turn in value] if isinstance(value, list) else value


class ScoreItem(Item):
    """One response."""

    response: Text


class CompareItem(Item):
    """Two responses to one prompt."""

    first: Text
    second: Text


class RankItem(Item):
    """Several responses to one prompt, judged together."""

    responses: list[Text] = Field(min_length=1, max_length=64)


class Asking(Strict):
    """What every request has."""

    reward: Name | None = Field(None, description="A name from /v1/rewards; may be left out where only one is served.")
    seed: int = Field(0, ge=0, lt=SEEDS, description="The only source of randomness of rewards that draw.")
    verdicts: bool = Field(False, description="Whether to send what was said, not only the numbers.")
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        None, strict=False, description="Give up after so long, if that is sooner than the service's own limit."
    )


class ScoreRequest(Asking):
    """Score responses one by one."""

    items: list[ScoreItem] = Field(min_length=1)

    def rows(self) -> list[Row]:
        """The items as rows."""
        return [item.row(number, [item.response]) for number, item in enumerate(self.items)]


class CompareRequest(Asking):
    """Say for each pair how likely the first is better."""

    items: list[CompareItem] = Field(min_length=1)

    def rows(self) -> list[Row]:
        """The items as rows."""
        return [item.row(number, [item.first, item.second]) for number, item in enumerate(self.items)]


class RankRequest(Asking):
    """Order the responses of each item."""

    items: list[RankItem] = Field(min_length=1)

    def rows(self) -> list[Row]:
        """The items as rows."""
        return [item.row(number, item.responses) for number, item in enumerate(self.items)]


class Said(BaseModel):
    """One thing that a judge said. choice: the label that was read. value: the number behind it."""

    choice: str | None = None
    value: float | None = None
    text: str | None = None
    order: list[int] | None = None
    seed: int | None = None
    status: str
    detail: str | None = None
    name: str | None = None


class ResponseScore(BaseModel):
    """A number or the reason why there is none: `value` is null exactly where `status` is not "ok"."""

    value: float | None
    status: str
    parts: dict[str, float | None] | None = Field(None, description="Named parts of a composed reward.")
    spread: float | None = Field(None, description="Standard deviation of the reward's own uncertainty.")
    detail: str | None = Field(None, description="Why there is no number, in a sentence.")
    verdicts: list[Said] | None = None


class ScoreResult(ResponseScore):
    """The answer to one item of /v1/score."""

    id: str | None = None


class PairScore(BaseModel):
    """first, second: positions in the item's responses. prob: P(first is better), half of a tie counted; null unless ok."""

    first: int
    second: int
    prob: float | None
    status: str
    tie: float | None = Field(None, description="P(tie), where the reward can say it.")
    by_order: list[float | None] | None = Field(None, description="prob as read with the first shown first, and second.")
    detail: str | None = None
    verdicts: list[Said] | None = None


class CompareResult(PairScore):
    """The answer to one item of /v1/compare."""

    id: str | None = None


class RankResult(BaseModel):
    """The answer to one item of /v1/rank. order: positions, best first; null where not every response has a number."""

    id: str | None = None
    responses: list[ResponseScore]
    order: list[int] | None
    pairs: list[PairScore] | None = None


class Answered(BaseModel):
    """Which reward said it. counts: how many numbers have each status."""

    reward: str
    fingerprint: str
    seed: int
    counts: dict[str, int]


class ScoreAnswer(Answered):
    """Items in the order of the request."""

    items: list[ScoreResult]


class CompareAnswer(Answered):
    """Items in the order of the request."""

    items: list[CompareResult]


class RankAnswer(Answered):
    """Items in the order of the request."""

    items: list[RankResult]


class RewardEntry(BaseModel):
    """One served reward. fingerprint: of everything that decides its numbers. native: how it judges."""

    name: str
    title: str
    fingerprint: str
    native: Literal["score", "compare", "score_group"]
    uses_seed: bool
    higher_is_better: bool
    batch_size: int


class RewardList(BaseModel):
    """What this service serves."""

    plaudit: str
    rewards: list[RewardEntry]


class State(BaseModel):
    """ok, or why not."""

    status: str


class Problem(BaseModel):
    """Why a request was not answered, in one sentence."""

    detail: str
