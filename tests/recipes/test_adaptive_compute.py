"""Card 16 in small: it runs, repeats, and its checks can hold, fail and be invalid."""

from plaudit.recipes import adaptive_compute
from plaudit.recipes.adaptive_compute import FIGURES, JUDGES, PRUNED, Config
from plaudit.recipes.base import Figures, verdict_of

SMALL = Config(train=(4, 3), prompts=4, n=3, taus=(0.1, 0.4, 0.6, 0.99), rank=2, batch=16)


def figures(seed, **changed):
    values = {f"{name}/best": 0.7 for name in JUDGES} | dict.fromkeys(PRUNED, 0.72)
    values |= {f"{name}/{figure}": 0.7 for name in ("annealed", "reversed", "one temperature") for figure in FIGURES}
    values |= {"one sample": 0.5, "self-evaluation/best": 0.8, "any right": 0.9, "annealed/fixed": 0.6}
    values |= {"pruned/accuracy": 0.75, "pruned at random/accuracy": 0.7}
    return Figures(seed, values | changed)


def outcomes(*seeds):
    return [check.outcome for check in adaptive_compute.check(list(seeds))]


def test_checks_can_hold_and_fail():
    good = figures(0)
    assert outcomes(good, good, good) == ["holds"] * 5
    no_gain = figures(0, **{"self-evaluation/best": 0.54})
    assert outcomes(no_gain, no_gain, no_gain)[0] == "fails"
    backwards = figures(0, **{"self-evaluation/best": 0.45})
    assert outcomes(backwards, backwards, backwards)[1] == "invalid", "there is no gain to keep a share of"
    little = figures(0, **{"annealed/accuracy": 0.64})
    assert outcomes(little, little, little) == ["holds", "fails", "holds", "holds", "holds"]
    equal = figures(0, **{"annealed/fixed": 0.695})
    assert outcomes(good, good, equal)[2] == "holds"
    assert outcomes(good, equal, equal)[2] == "fails"
    lossy = figures(0, **{"pruned/accuracy": 0.73})
    assert outcomes(lossy, lossy, lossy) == ["holds", "holds", "holds", "fails", "holds"]
    chance = figures(0, **{"pruned at random/accuracy": 0.75})
    assert outcomes(chance, chance, chance)[4] == "fails"
    never = figures(0, **{"annealed/accuracy": None})
    assert outcomes(never, never, never)[1] == "invalid"


def test_it_runs_in_small_and_repeats(tmp_path, monkeypatch):
    from plaudit.worlds.base import Decoder, Level
    from plaudit.worlds.self_judged import SelfJudgedSorting

    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path))
    monkeypatch.setattr(SelfJudgedSorting, "levels", {"half": Level(demonstrations=200, epochs=1)})
    monkeypatch.setattr(SelfJudgedSorting, "decoder", Decoder(2, 32, 4, 48))
    first, second = adaptive_compute.run(SMALL, 1), adaptive_compute.run(SMALL, 1)
    assert {name: value for name, value in first.values.items() if value is not None} == {
        name: value for name, value in second.values.items() if value is not None
    }
    assert first.curves == second.curves
    assert first["tokens/pruned"] < first["tokens/fixed"] * 1.5
    checks = adaptive_compute.check([first])
    assert verdict_of(checks) in ("holds", "fails", "invalid")
    assert len(first.curves) == 4
