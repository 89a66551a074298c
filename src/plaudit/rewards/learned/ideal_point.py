"""`MixtureIdealPoint`: users as mixtures of a few learned prototypes, who like what is close to their ideal point (PAL, card 24).

Chen et al., "PAL: Pluralistic alignment framework for learning from heterogeneous preferences", arXiv 2406.08469. Notation: h the
backbone's vector, f the item map, P prototypes [K, .], w_i = softmax(v_i) a user's weights, a_i the user's ideal point.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.learned.base import Backbone, LearnedReward, pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.localizing import backbone_of, numbered, pair_users, usable, user_names
from plaudit.rewards.learned.networks import mlp
from plaudit.types import Batch, Loss, Preferences, Scores, Status, UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Ideal = Literal["f(Pw)", "f(P)w", "Pw", "prompt"]
Margin = Literal["logistic", "hinge", "smooth hinge"]
LARGEST_SCALE = 100.0


def smooth_hinge(margins: Tensor, gamma: float = 5.0) -> Tensor:
    """0 for m >= 1, (1 - m)^2 / (2 gamma) for 1 - gamma <= m < 1, else 1 - m - gamma / 2: quadratic, then linear."""
    import torch

    short = (1 - margins).clamp(min=0)
    return torch.where(short <= gamma, short.square() / (2 * gamma), short - gamma / 2)


def margin_losses(gaps: Tensor, prob: Tensor, kind: Margin = "logistic", gamma: float = 5.0) -> Tensor:
    """[P] losses of reward gaps first - second. logistic: cross-entropy with soft labels, a tie being p = 0.5. hinge and smooth
    hinge: on the winner's margin, times |2p - 1|: a tie has no winner and costs nothing. Swapping pair and label changes nothing.
    """
    from plaudit.rewards.learned.losses import pair_losses

    if kind == "logistic":
        return pair_losses(gaps, prob)
    lead = 2 * prob.to(gaps.dtype) - 1
    margins = gaps * lead.sign()
    return lead.abs() * ((1 - margins).clamp(min=0) if kind == "hinge" else smooth_hinge(margins, gamma))


class MixtureIdealPoint(LearnedReward):
    """r_i(c, x) = -s |f(h) - a_i| (similarity "distance") or s cos(f(h), a_i) ("angle"); s <= 100, learned if logistic.

    ideal: "f(Pw)" (default), "f(P)w", "Pw": one ideal point a user (PAL-A), prototypes in the backbone's space or, for the last,
    in the learned one; "prompt": a_i(c) = sum_k w_ik g_k(prompt vector) (PAL-B), read by `prompt_backbone`. k: prototypes; k = 1
    is the same for everybody. width, hidden: of the learned space and of the one hidden layer of f and g_k, with GELU
    (published: ReLU in f of PAL-A). residual: f(h) + h, for equal widths. loss: see `margin_losses`. per_user: a user's pairs
    weigh 1 / their number. bound: adds bound x sum max(0, |a_k| - 4) a pair over the prototypes; 0 as published, where it did
    harm. partition: at evaluation a user is the one prototype of the largest weight. unknown: users never seen are "mean" (mean
    weights of those seen, with a warning) or "status" (NOT_APPLICABLE). users: those known; they come from the data. fixed: one
    mixture [K] for every row, whoever's it is (`as_fixed`).
    A label switch of the prototypes changes nothing, and unused ones are legal.
    """

    kind: ClassVar[str] = "ideal-point"
    name = "ideal-point"

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any],
        *,
        k: int = 2,
        width: int = 16,
        hidden: int = 64,
        ideal: Ideal = "f(Pw)",
        similarity: Literal["distance", "angle"] | None = None,
        loss: Margin = "logistic",
        prompt_backbone: Backbone | Mapping[str, Any] | None = None,
        residual: bool = False,
        per_user: bool = False,
        gamma: float = 5.0,
        bound: float = 0.0,
        partition: bool = False,
        unknown: Literal["mean", "status"] = "mean",
        users: Sequence[str] = (),
        fixed: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        similarity = similarity or ("angle" if ideal == "prompt" else "distance")
        if k < 1 or ideal not in get_args(Ideal) or loss not in get_args(Margin):
            raise UserError(f"an ideal point needs k >= 1, a known map and loss, not k={k}, ideal='{ideal}', loss='{loss}'")
        if (ideal == "prompt") != (prompt_backbone is not None):
            raise UserError("ideal='prompt' needs a prompt_backbone, and nothing else takes one")
        self.backbone: Backbone = backbone_of(backbone)
        self.prompts = None if prompt_backbone is None else backbone_of(prompt_backbone)
        if fixed is not None and (len(fixed) != k or min(fixed) < 0 or abs(sum(fixed) - 1) > 1e-4):
            raise UserError(f"a mixture is {k} numbers that are not negative and add up to 1, not {list(fixed)}")
        if residual and self.backbone.width != width:
            raise UserError(f"residual needs the backbone's width {self.backbone.width}, not {width}")
        self.settings = {
            "backbone": dict(self.backbone.settings), "k": k, "width": width, "hidden": hidden, "ideal": ideal,
            "similarity": similarity, "loss": loss, "residual": residual,
            "per_user": per_user, "gamma": gamma, "bound": bound, "partition": partition,
            "unknown": unknown, "users": [], "fixed": fixed, "seed": seed,
            "prompt_backbone": None if self.prompts is None else dict(self.prompts.settings),
        }  # fmt: skip
        self._build()
        self.add_users(users)

    def _build(self) -> None:
        """Modules with the initial weights of the seed."""
        import torch
        from torch import nn
        from torch.nn import functional

        given = self.settings
        shape, seed = (given["hidden"], given["width"]), given["seed"]
        self.item = mlp((self.backbone.width, *shape), seed=derive_seed(seed, "items"))
        self.own: Any
        if self.prompts is not None:
            maps = [mlp((self.prompts.width, *shape), seed=derive_seed(seed, "prompts", number)) for number in range(given["k"])]
            self.own = nn.ModuleList(maps)
        else:
            wide = given["width"] if given["ideal"] == "Pw" else self.backbone.width
            draw = torch.Generator().manual_seed(derive_seed(seed, "prototypes"))
            points = functional.normalize(torch.randn(given["k"], wide, generator=draw), dim=1)
            self.own = nn.ParameterDict({"points": nn.Parameter(points)})
        start = math.log(1 / 0.07) if given["similarity"] == "angle" else 0.0
        self.scale = nn.ParameterDict({"log": nn.Parameter(torch.tensor(start), requires_grad=given["loss"] == "logistic")})
        self.people = nn.ParameterDict({"logits": nn.Parameter(torch.zeros(0, given["k"]))})

    @property
    def users(self) -> tuple[str, ...]:
        """Those whose weights it has, in the order of the table."""
        return tuple(self.settings["users"])

    def modules(self) -> dict[str, Module]:
        """f, the prototypes (or g_1 .. g_K), the scale and the users' v, each of which may have its own learning rate."""
        return {"item": self.item, "prototypes": self.own, "scale": self.scale, "users": self.people}

    def fitted_modules(self) -> dict[str, Module]:
        """Those, the backbone's, and the prompt backbone's as one module "prompt_backbone"."""
        from torch.nn import ModuleDict

        of_prompts = {} if self.prompts is None else self.prompts.modules()
        return {**super().fitted_modules(), **({"prompt_backbone": ModuleDict(of_prompts)} if of_prompts else {})}

    def add_users(self, users: Sequence[str], logits: Tensor | None = None) -> None:
        """Take in users who are not known yet, with logits [U, K] or v ~ N(0, 1); who is known stays as they are."""
        import torch

        known = set(self.settings["users"])
        fresh = [number for number, user in enumerate(users) if user not in known]
        if not fresh:
            return
        if len({users[number] for number in fresh}) < len(fresh):
            raise UserError("a user is given twice")
        if logits is None:
            draws = [torch.Generator().manual_seed(derive_seed(self.settings["seed"], "user", user)) for user in users]
            logits = torch.stack([torch.randn(self.settings["k"], generator=draw) for draw in draws])
        self.people["logits"] = torch.nn.Parameter(torch.cat([self.people["logits"].detach(), logits[fresh].detach()]))
        self.settings["users"] = [*self.settings["users"], *(users[number] for number in fresh)]

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:
        """Take in the users of the fitted pairs; with `per_user`, weigh pairs so that these users weigh alike (mean weight 1).

        Users of held-out pairs only stay unknown: they are judged by the mean weights.
        """
        import torch

        names, numbers = numbered(pair_users(data))
        index = torch.as_tensor(units, dtype=torch.int64)
        counts = torch.bincount(numbers[index], minlength=len(names))
        self.add_users([name for name, count in zip(names, counts.tolist(), strict=True) if count])
        if not self.settings["per_user"]:
            return data
        told = pairs_of(data)
        weight = len(index) / ((counts > 0).sum() * counts.clamp(min=1))[numbers]
        weight = weight if told.weight is None else weight * told.weight
        weighted = Preferences(told.first, told.second, told.prob, weight, told.status, told.tie, told.verdicts)
        return FitData(data.batch, weighted, data.ratings)

    def weights_of(self, users: Sequence[str]) -> Tensor:
        """[B, K] on the simplex, with gradient; users who are not known have the mean of those who are (1/K where none is)."""
        import torch

        place = {user: number for number, user in enumerate(self.users)}
        mixed = self.people["logits"].softmax(1)
        if self.settings["partition"] and not self.item.training:
            mixed = torch.nn.functional.one_hot(mixed.argmax(1), self.settings["k"]).to(mixed)
        table = torch.cat([mixed, self.mean_weights()[None].to(mixed)])
        return table[[place.get(user, len(place)) for user in users]]

    def mean_weights(self) -> Tensor:
        """[K] mean over the known users: what is assumed of somebody about whom nothing is known."""
        import torch

        k = self.settings["k"]
        return self.people["logits"].detach().softmax(1).mean(0) if self.users else torch.full((k,), 1 / k)

    def ideal_points(self, weights: Tensor, batch: Batch | None = None) -> Tensor:
        """[B, K] -> [B, width] the ideal points a_i; `batch` gives the prompts where the map reads them."""
        import torch

        kind = self.settings["ideal"]
        if self.prompts is not None:
            if batch is None:
                raise ValueError("the ideal point of a prompt needs the batch that has the prompts")
            given = self.prompts.encode(batch).to(weights)
            return (weights[..., None] * torch.stack([g(given) for g in self.own], 1)).sum(1)
        points = self.own["points"]
        if kind == "f(Pw)":
            return self.items(weights @ points)
        return weights @ (self.items(points) if kind == "f(P)w" else points)

    def items(self, vectors: Tensor) -> Tensor:
        """[B, d] -> [B, width] the map f."""
        mapped: Tensor = self.item(vectors)
        return mapped + vectors if self.settings["residual"] else mapped

    def rated(self, items: Tensor, ideal: Tensor) -> Tensor:
        """[B] scores of mapped items [B, width] by ideal points [B, width]; a length below 1e-8 counts as 1e-8."""
        from torch.nn.functional import cosine_similarity

        if self.settings["similarity"] == "angle":
            close = cosine_similarity(items, ideal, dim=1, eps=1e-8)
        else:
            close = -((items - ideal).square().sum(1) + 1e-16).sqrt()  # the root's slope at 0 is held finite
        scaled: Tensor = close * self.scale["log"].exp().clamp(max=LARGEST_SCALE)
        return scaled

    def logit_at(self, batch: Batch, weights: Tensor) -> Tensor:
        """[B] scores for given weights [B, K]."""
        return self.rated(self.items(self.encode(batch)), self.ideal_points(weights, batch))

    def logit(self, batch: Batch) -> Tensor:
        """[B] scores by the rows' users."""
        fixed = self.settings["fixed"]
        weights = (
            self.weights_of(user_names(batch)) if fixed is None else self.scale["log"].new_tensor(fixed).expand(len(batch), -1)
        )
        return self.logit_at(batch, weights)

    def loss(self, data: FitData) -> Loss:
        """Sum over pairs of weight x `margin_losses`."""
        return self.pair_loss(self.logit(data.batch), data)

    def pair_loss(self, rewards: Tensor, data: FitData) -> Loss:
        """The same, from rewards [B]."""
        from plaudit.rewards.learned.losses import pair_accuracy

        told, given = pairs_of(data), self.settings
        gaps = rewards[told.first] - rewards[told.second]
        losses = margin_losses(gaps, told.prob, given["loss"], given["gamma"])
        if told.weight is not None:
            losses = losses * told.weight.to(losses)
        total = losses.sum()
        if given["bound"] and self.prompts is None:
            total = total + given["bound"] * len(data) * (self.own["points"].norm(dim=1) - 4).clamp(min=0).sum()
        return Loss(total, stats={"accuracy": pair_accuracy(gaps.detach(), told.prob)})

    def status(self, batch: Batch) -> Tensor:
        """What the backbones say."""
        import torch

        status = super().status(batch)
        return status if self.prompts is None else torch.where(status == Status.OK, self.prompts.status(batch), status)

    def score_rows(self, batch: Batch) -> Scores:
        """Logits; rows of unknown users are NOT_APPLICABLE with unknown="status", else a warning counts them."""
        import torch

        values = self.logit(batch) / self.temperature
        if self.settings["fixed"] is not None:
            return Scores(values)
        known = set(self.users)
        strange = torch.tensor([user not in known for user in user_names(batch)], dtype=torch.bool)
        if self.settings["unknown"] == "status":
            return Scores(values, torch.where(strange, int(Status.NOT_APPLICABLE), int(Status.OK)))
        if bool(strange.any()):
            warnings.warn(
                f"{int(strange.sum())} rows are of unknown users: judged by the mean weights of the known", stacklevel=2
            )
        return Scores(values)

    def localize(self, user: str, data: FitData, *, steps: int = 200, learning_rate: float = 5e-2, pull: float = 0.0) -> None:
        """Fit v of one user on their pairs, everything else frozen; it starts from the mean weights; without pairs it stays.

        pull: adds pull / 2 |v - start|^2, a normal prior of variance 1 / pull (0: none, as published). Pairs that cannot be
        used are left out. Raises UserError where the loss is not finite.
        """
        import torch
        from torch.nn import Parameter, ParameterDict

        from plaudit.fitting.config import FitConfig
        from plaudit.fitting.train import train

        start = self.mean_weights().clamp(min=1e-6).log()
        new = ParameterDict({"v": Parameter(start.clone())})
        data = usable(data)
        if len(data):
            rows = data.batch
            for module in self.fitted_modules().values():
                module.eval()
            with torch.no_grad():
                mapped = self.items(self.encode(rows))

            def loss(_: Any) -> Loss:
                weights = new["v"].softmax(0).expand(len(rows), -1)
                found = self.pair_loss(self.rated(mapped, self.ideal_points(weights, rows)), data)
                return Loss(found.total + pull / 2 * (new["v"] - start).square().sum())

            frozen = [parameter for parameter in self._parameters() if parameter.requires_grad]
            config = FitConfig(learning_rate=learning_rate, max_grad_norm=None)
            try:
                for parameter in frozen:
                    parameter.requires_grad_(False)
                found = train({"user": new}, [range(len(data))] * steps, loss, config)
            finally:
                for parameter in frozen:
                    parameter.requires_grad_(True)
            if found.skipped:
                raise UserError(f"user '{user}' could not be fitted: {found.skipped} of {steps} steps had no finite loss")
        self.add_users([user], new["v"].detach()[None])
        with torch.no_grad():
            self.people["logits"][self.users.index(user)] = new["v"]

    def _parameters(self) -> list[Any]:
        return [parameter for module in self.fitted_modules().values() for parameter in module.parameters()]

    def as_fixed(self, weights: Sequence[float]) -> MixtureIdealPoint:
        """A plain reward of one point [K] of the simplex, the same for every row: it needs no users, and holds none.

        Raises UserError for weights off the simplex.
        """
        fixed = MixtureIdealPoint(**{**self.settings, "users": [], "fixed": [float(weight) for weight in weights]})
        state = self.state_dict()
        state["weights"]["users/logits"] = state["weights"]["users/logits"][:0]
        fixed.load_state_dict(state)
        return fixed
