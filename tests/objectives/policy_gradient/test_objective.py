"""`PolicyGradient` as a whole: what takes part, accumulation, KL, critic, and that it learns."""

from dataclasses import replace

import pytest
import torch

from plaudit.objectives import policy_gradient as pg
from plaudit.objectives.steps import zero_loss
from plaudit.types import Context, Scores, Status, UserError
from tests.objectives.tabular import Tabular, count_of, drawn, gradient

NAN = float("nan")


def critic_of(generator):
    return pg.ValueHead(generator)


def every(generator):
    """One of each, by name."""
    return {
        "grpo": pg.grpo(),
        "grpo_kl": pg.grpo(kl=0.1),
        "dr_grpo": pg.dr_grpo(length=4.0),
        "dapo": pg.dapo(),
        "gspo": pg.gspo(),
        "rloo": pg.rloo(),
        "rloo_kl": pg.rloo(kl=0.05),
        "reinforce": pg.reinforce(),
        "ppo": pg.ppo(critic_of(generator)),
        "pairwise_grpo": pg.pairwise_grpo(),
        "brpo": pg.brpo(),
        "grpo_entropy": pg.grpo(entropy=0.05),
        "grpo_steps": pg.grpo(step_fraction=0.5),
        "cispo": replace(pg.grpo(), surrogate=pg.CISPO()),
    }


NAMES = list(every(None))


def setting(stop=0, n=4, seed=0):
    generator = Tabular(stop=stop)
    return generator, drawn(generator, n=n, seed=seed), Context(seed=seed, reference_policy=Tabular(stop=stop, seed=9))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_eight_is_eight_of_one(name):
    generator, t, ctx = setting()
    objective = every(generator)[name]
    lesson = objective.prepare(t, count_of(t), ctx)
    assert lesson.stats["rows_kept"] > 1
    generator.table.logits.data += 0.1  # so that ratios are not 1
    whole = gradient(generator, objective, lesson, ctx)
    assert whole.abs().max() > 1e-6
    for rows in (1, 3):
        assert torch.allclose(gradient(generator, objective, lesson, ctx, mini_batch=rows), whole, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_trivial_target_is_learned(name):
    generator = Tabular(dtype=torch.float32, spread=0.1)
    objective = every(generator)[name]
    optimiser = torch.optim.Adam(generator.table.parameters(), lr=0.1)
    means = []
    for step in range(30):
        ctx = Context(step=step, seed=1, reference_policy=Tabular(dtype=torch.float32, spread=0.1))
        t = drawn(generator, n=8, seed=step)
        scores = count_of(t)
        means.append(float(scores.values.mean()))
        lesson = objective.prepare(t, scores, ctx)
        for _ in range(1 if isinstance(objective.surrogate, pg.Reinforce) else 2):
            if objective.units(lesson):
                optimiser.zero_grad()
                (objective.loss(generator, lesson, ctx).total / objective.units(lesson)).backward()
                optimiser.step()
    assert sum(means[-5:]) / 5 > sum(means[:3]) / 3 + 0.25


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
def test_before_the_first_update_the_gradient_is_reinforce_with_the_same_advantages(name):
    generator, t, ctx = setting()
    objective = every(generator)[name]
    lesson = objective.prepare(t, count_of(t), ctx)
    plain = replace(objective, surrogate=pg.Reinforce())
    assert torch.allclose(gradient(generator, objective, lesson, ctx), gradient(generator, plain, lesson, ctx), atol=1e-12)
    assert objective.loss(generator, lesson, ctx).stats["log_ratio_max"] == 0


def test_the_gradient_by_hand():
    """GRPO without masks: (1/B) sum_i A_i (1/T) sum_t (onehot - softmax), and DAPO the mean over all steps."""
    generator, t, ctx = setting(stop=0)
    scores = count_of(t)
    lesson = pg.grpo().prepare(t, scores, ctx)
    advantages = pg.group_advantages(scores.values, t.batch.groups).values
    probs = generator.table.logits.detach().softmax(-1)
    onehot = torch.nn.functional.one_hot(t.payload["tokens"], 3).double()
    slope = -advantages[:, None, None] * (onehot - probs) * t.mask[:, :, None]
    lengths = t.mask.sum(1)[:, None, None]
    assert torch.allclose(gradient(generator, pg.grpo(), lesson, ctx), (slope / lengths).sum(0) / len(t))
    assert torch.allclose(gradient(generator, pg.dapo(), lesson, ctx), slope.sum(0) / t.mask.sum())
    assert torch.allclose(gradient(generator, pg.dr_grpo(length=7.0), lesson, ctx), slope.sum(0) / len(t) / 7)


def test_the_kl_in_the_loss_pulls_towards_the_reference():
    generator, t, ctx = setting(stop=None, n=400)
    equal = Scores(torch.ones(len(t)))
    objective = pg.PolicyGradient(pg.ByRow(), pg.PPOClip(), "steps", kl=pg.KLPenalty(1.0, "k2"), on_equal="zero")
    lesson = objective.prepare(t, equal, ctx)
    assert lesson.stats["groups_equal"] == 2
    assert lesson.keep.all()
    logits = generator.table.logits
    p, q = logits.log_softmax(-1), ctx.reference_policy.table.logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((p.exp() * (p - q)).sum(-1).mean(), logits)
    assert torch.allclose(gradient(generator, objective, lesson, ctx), exact, atol=0.03)
    assert lesson.stats["kl_reference"] / 4 == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean().detach()), abs=0.05)


def test_the_kl_in_the_reward_is_taken_off_before_the_advantages():
    _, t, ctx = setting()
    scores = count_of(t)
    lesson = pg.rloo(kl=0.3).prepare(t, scores, ctx)
    ratio = torch.where(t.mask, t.log_probs - ctx.reference_policy.evaluate(t).log_prob, 0.0).sum(1)
    expected = pg.leave_one_out_advantages(scores.values - 0.3 * ratio, t.batch.groups).values
    assert torch.allclose(lesson.weights, expected[:, None] * t.mask, atol=1e-6)


def test_a_plug_that_would_lose_the_kl_refuses_it():
    _, t, ctx = setting()
    objective = replace(pg.pairwise_grpo(), kl=pg.KLPenalty(0.1, "k1", "reward"))
    with pytest.raises(UserError, match="into the loss"):
        objective.prepare(t, count_of(t), ctx)


def test_a_kl_without_a_reference_policy_is_said():
    _, t, _ = setting()
    with pytest.raises(UserError, match="reference policy"):
        pg.grpo(kl=0.1).prepare(t, count_of(t), Context())


def test_the_adaptive_coefficient_moves_between_draws_and_resumes():
    _, t, ctx = setting(n=50)
    objective = pg.grpo()
    objective.kl = pg.KLPenalty(pg.AdaptiveCoefficient(0.1, target=1e-3, horizon=200))
    first, second = (objective.prepare(t, count_of(t), ctx).stats["kl_coefficient"] for _ in range(2))
    assert (first, second) == (0.1, pytest.approx(0.11))
    other = pg.grpo()
    other.kl = pg.KLPenalty(pg.AdaptiveCoefficient())
    other.load_state_dict(objective.state_dict())
    assert other.kl.current(ctx) == objective.kl.current(ctx)


def test_every_row_that_leaves_is_counted():
    generator, t, ctx = setting(stop=0)
    values = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 2.0, NAN, NAN])
    status = torch.tensor([0, 0, 0, 0, 0, 0, int(Status.UNPARSABLE), int(Status.TIMED_OUT)])
    scores = Scores(values, status)
    dropped = pg.grpo().prepare(t, scores, ctx)
    assert dropped.keep.tolist() == [False] * 4 + [True, True, False, False]
    counted = {name: dropped.stats[name] for name in ("rows", "rows_kept", "rows_invalid", "rows_unparsable", "rows_timed_out")}
    assert counted == {"rows": 8, "rows_kept": 2, "rows_invalid": 2, "rows_unparsable": 1, "rows_timed_out": 1}
    assert (dropped.stats["groups"], dropped.stats["groups_equal"], dropped.stats["groups_empty"]) == (2, 1, 0)
    zero = pg.grpo(on_equal="zero").prepare(t, scores, ctx)
    assert zero.keep.tolist() == [True] * 6 + [False, False]
    assert (zero.weights[:4] == 0).all()
    # the same gradient up to the denominator, which counts the equal rows
    one, other = gradient(generator, pg.grpo(), dropped, ctx), gradient(generator, pg.grpo(), zero, ctx)
    assert torch.allclose(one * 2, other * 6)


@pytest.mark.parametrize(
    ("values", "empty"),
    [
        ([1.0, 2, 3, 4, NAN, NAN, NAN, NAN], 1),  # no score at all
        ([1.0, 2, 3, 4, 5, NAN, NAN, NAN], 1),  # one score, and nothing to compare it with
        ([1.0, 1, 1, 1, NAN, NAN, NAN, NAN], 1),  # beside an equal group
        ([NAN] * 8, 2),
        ([1.0, 2, NAN, NAN, 1, 2, NAN, NAN], 0),
    ],
)
@pytest.mark.parametrize("objective", [pg.grpo, pg.rloo])
def test_a_group_that_lost_its_scores_is_counted_as_empty(objective, values, empty):
    _, t, ctx = setting()
    assert objective().prepare(t, Scores(torch.tensor(values)), ctx).stats["groups_empty"] == empty


def test_rows_that_leave_are_not_evaluated_and_nothing_left_is_a_zero():
    generator, t, ctx = setting()
    lesson = pg.grpo().prepare(t, Scores(torch.tensor([0.0, 1, NAN, NAN, NAN, NAN, NAN, NAN])), ctx)
    generator.evaluated = 0
    pg.grpo().loss(generator, lesson, ctx)
    assert generator.evaluated == 2
    none = pg.grpo().prepare(t, Scores(torch.full((8,), NAN)), ctx)
    assert pg.grpo().units(none) == 0
    loss = pg.grpo().loss(generator, none, ctx)
    loss.total.backward()
    assert loss.total == 0
    assert zero_loss(generator).total.requires_grad


def test_truncated_rows_stay_in_the_statistics_but_leave_the_loss():
    _, t, ctx = setting()
    scores = count_of(t)
    t.done = ["terminal", "truncated"] + ["terminal"] * 6
    with_all, without = pg.dapo(train_on_truncated=True).prepare(t, scores, ctx), pg.dapo().prepare(t, scores, ctx)
    assert (with_all.keep & ~without.keep).tolist() == [False, True] + [False] * 6
    assert torch.equal(with_all.weights, without.weights)
    assert without.stats["rows_truncated"] == 1


def test_only_the_best_and_worst_of_each_group():
    _, t, ctx = setting(n=5)
    scores = Scores(torch.tensor([3.0, 1, 2, 5, 4, 0, 10, 20, 30, 40]))
    lesson = pg.grpo(keep_extremes=2).prepare(t, scores, ctx)
    assert lesson.keep.nonzero().flatten().tolist() == [1, 3, 5, 9]


def test_a_share_of_the_steps():
    generator, t, ctx = setting(stop=None)
    objective = pg.grpo(step_fraction=0.5)
    lesson = objective.prepare(t, count_of(t), ctx)
    assert lesson.columns["trained_steps"].sum(1).tolist() == [2] * 8
    assert objective.units(lesson) == 8
    assert replace(objective, normalisation="steps").units(lesson) == 16
    again = objective.prepare(t, count_of(t), replace(ctx, step=1))
    assert not torch.equal(again.columns["trained_steps"], lesson.columns["trained_steps"])
    assert lesson.trajectories.mask.all(), "whoever watches the run sees the draw as it was"
    slope = gradient(generator, objective, lesson, ctx)
    (lesson.columns["trained_steps"])[:, 3] = False
    assert gradient(generator, objective, lesson, ctx)[3].abs().max() == 0 < slope[3].abs().max()


def test_a_row_with_a_log_probability_that_is_no_number_leaves():
    _, t, ctx = setting(stop=None)
    t.log_probs[3, 1] = -torch.inf
    lesson = pg.grpo().prepare(t, count_of(t), ctx)
    assert lesson.stats["rows_bad_log_probs"] == 1
    assert not lesson.keep[3]


def test_advantages_are_cut():
    _, t, ctx = setting(n=8)
    scores = Scores(torch.tensor([0.0] * 7 + [1.0] + list(range(8))))
    lesson = pg.grpo(clip_advantage=1.5).prepare(t, scores, ctx)
    assert lesson.weights.abs().max() == 1.5


def test_parts_are_normalised_each_before_they_are_added():
    _, t, ctx = setting(n=3)
    small, large = torch.tensor([0.0, 1, 2, 5, 5, 5]), torch.tensor([900.0, 100, 500, 0, 300, 600])
    scores = Scores(small + large, parts={"small": small, "large": large})
    plug = pg.PartsAdvantage({"small": 1.0, "large": 0.5})
    found = plug(t, scores, ctx).values
    one, other = (pg.group_advantages(part, t.batch.groups).values for part in (small, large))
    assert torch.allclose(found[:3], one[:3] + 0.5 * other[:3])
    assert torch.allclose(found[3:], 0.5 * other[3:]), "a part that is equal in a group adds nothing"
    scaled = Scores(scores.values, parts={"small": 100 * small + 7, "large": large})
    assert torch.allclose(plug(t, scaled, ctx).values, found, atol=1e-5)


def test_a_part_that_abstains_leaves_the_others_scale():
    _, t, ctx = setting(n=4)
    first = torch.tensor([0.0, 1, 2, NAN, 1, 2, 3, 4])
    second = torch.tensor([5.0, 3, 9, 1, 1, 1, 1, 2])
    scores = Scores(torch.zeros(8), parts={"first": first, "second": second})
    row = pg.PartsAdvantage({"first": 1.0, "second": 1.0})(t, scores, ctx)
    assert row.status.tolist() == [0, 0, 0, Status.ABSTAINED, 0, 0, 0, 0]
    alone = pg.group_advantages(second, t.batch.groups).values
    assert torch.allclose(row.values[:3], pg.group_advantages(first, t.batch.groups).values[:3] + alone[:3])
    dropped = pg.PartsAdvantage({"first": 1.0, "second": 1.0}, on_missing="drop_for_group")(t, scores, ctx)
    assert torch.allclose(dropped.values[:4], alone[:4])
    assert dropped.stats["parts_dropped"] == 1
    assert torch.allclose(dropped.values[4:], row.values[4:])


def test_parts_that_all_agree_are_an_equal_group_and_unknown_parts_are_said():
    _, t, ctx = setting(n=4)
    scores = Scores(torch.zeros(8), parts={"a": torch.tensor([1.0] * 4 + [0, 1, 2, 3]), "b": torch.ones(8)})
    assert pg.PartsAdvantage({"a": 1.0, "b": 1.0})(t, scores, ctx).status.tolist() == [Status.EQUAL_GROUP] * 4 + [0] * 4
    with pytest.raises(UserError, match="no part wit"):
        pg.PartsAdvantage({"wit": 1.0})(t, scores, ctx)


def test_a_fixed_anchor_may_be_a_column():
    _, t, ctx = setting(n=4)
    t.batch.extras["anchor"] = [1.0, 2.0, None, 0.5] * 2
    found = pg.FixedAnchor("anchor")(t, Scores(torch.ones(8)), ctx)
    assert found.values[[0, 1, 3]].tolist() == [0, -1, 0.5]
    assert found.status[2] == Status.ABSTAINED
    with pytest.raises(UserError, match="no column"):
        pg.FixedAnchor("rival")(t, Scores(torch.ones(8)), ctx)


@pytest.mark.parametrize("settings", [{"on_equal": "x"}, {"step_fraction": 0.0}, {"normalisation": "x"}, {"length": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=r"expected|must"):
        pg.grpo(**settings)


def test_the_entropy_bonus_is_the_gradient_of_the_mean_entropy():
    generator, t, ctx = setting(stop=None)
    objective = pg.grpo(entropy=0.3, on_equal="zero")
    lesson = objective.prepare(t, Scores(torch.ones(8)), ctx)
    p = generator.table.logits.log_softmax(-1)
    (slope,) = torch.autograd.grad(-(p.exp() * p).sum(-1).mean(), generator.table.logits)
    assert torch.allclose(gradient(generator, objective, lesson, ctx), -0.3 * slope)


def test_a_lesson_of_another_objective_is_refused():
    generator, t, ctx = setting()
    lesson = pg.grpo().prepare(t, count_of(t), ctx)
    lesson.weights = None
    with pytest.raises(ValueError, match="not prepared"):
        pg.grpo().loss(generator, lesson, ctx)
