"""Trackers through accelerate: what they are sent."""

from dataclasses import asdict

import pytest

from plaudit.fitting import FitConfig
from plaudit.training import OnPolicy, Run, RunConfig
from plaudit.training.trackers import Trackers
from plaudit.types import Batch, UserError
from tests.training.small import GroupGradient, Match, Words

CONFIG = RunConfig(steps=3, fit=FitConfig(learning_rate=0.1, learning_rates={"critic": 0.5}))


def run_with(folder, trackers):
    config = RunConfig(steps=3, fit=FitConfig(learning_rate=0.1), trackers=trackers)
    source = OnPolicy(Batch([str(number) for number in range(6)]), rows_per_draw=24, samples_per_prompt=8)
    return Run(Words(seed=1), GroupGradient(), source, reward=Match(), config=config, run_dir=folder).finish()


def recorder():
    """A tracker of accelerate's own kind that keeps what it is told."""
    from accelerate.tracking import GeneralTracker

    class Recorder(GeneralTracker):
        name, requires_logging_directory = "recorder", False

        def __init__(self):
            super().__init__()
            self.settings, self.lines, self.finished = {}, [], False

        @property
        def tracker(self):
            return self

        def store_init_configuration(self, values):
            self.settings = values

        def log(self, values, step=None, **_):
            self.lines.append((step, values))

        def finish(self):
            self.finished = True

    return Recorder()


def test_accelerate_is_told_settings_and_every_step(tmp_path):
    seen = recorder()
    trackers = Trackers([seen], tmp_path, asdict(CONFIG))
    for step in range(3):
        trackers.log({"draw/reward_mean": step / 2}, step)
    assert not seen.finished
    trackers.close()
    assert seen.finished
    assert seen.lines == [(step, {"draw/reward_mean": step / 2}) for step in range(3)]
    assert seen.settings["steps"] == 3
    assert (seen.settings["fit.learning_rate"], seen.settings["fit.learning_rates.critic"]) == (0.1, 0.5)
    assert all(isinstance(value, int | float | str | bool) for value in seen.settings.values())


def test_without_names_nothing_is_opened(tmp_path):
    trackers = Trackers((), tmp_path / "none", {})
    trackers.log({"a": 1.0}, 0)
    trackers.close()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("names", [("nonsense",), ("dvclive",), ("dvclive", "nonsense")])
def test_trackers_that_cannot_be_used_are_named(names, tmp_path):
    with pytest.raises(UserError, match=names[-1]):
        Trackers(names, tmp_path, {})


def test_tensorboard_holds_the_metrics_of_a_run(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    run = run_with(tmp_path / "run", ("tensorboard",))
    found = {}
    for file in sorted(run.folder.path.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
                found[value.tag, event.step] = number
    for line in run.metrics[:3]:
        assert found["draw/reward_mean", line["step"]] == pytest.approx(line["draw/reward_mean"], rel=1e-6)
        assert found["update/loss", line["step"]] == pytest.approx(line["update/loss"], rel=1e-6)
