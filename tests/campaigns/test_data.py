"""A slice of the campaigns over data, whose whole `make campaigns` runs."""

import signal
import time
from pathlib import Path

import pytest

from tests.campaigns import images, mat, tables, trial
from tests.campaigns.trial import campaign


@pytest.mark.parametrize(("module", "count"), [(images, 40), (tables, 40), (mat, 8)])
def test_a_slice_of_the_campaign_fails_nowhere(module, count):
    name = module.__name__.rpartition(".")[2]
    assert campaign(name, module.trial, range(module.COUNT, module.COUNT + count)) == []


def misbehaving(seed: int, folder: Path) -> str:
    """One that is well, one that waits for ever, one that computes for ever, one that crashes, one that is slow."""
    if seed == 1:
        signal.pause()
    while seed == 2:
        pass
    if seed == 3:
        signal.raise_signal(signal.SIGSEGV)
    if seed == 4:
        raise AssertionError(f"read, {trial.SLOW}: 11.0 s")
    return "read"


def test_what_is_slow_hangs_or_crashes_is_told_apart(monkeypatch, capsys):
    monkeypatch.setattr(trial, "ENDLESS_S", 0.5)
    monkeypatch.setattr(trial, "STILL_S", 1.0)
    begun = time.process_time()
    failures = campaign("bad", misbehaving, range(5))
    assert time.process_time() - begun < 5  # the waiting itself costs nothing
    reasons = [trial.HANGS, trial.ENDLESS, trial.CRASHED, f"AssertionError: read, {trial.SLOW}: 11.0 s"]
    assert failures == [f"bad {seed}: {reason}" for seed, reason in enumerate(reasons, start=1)]
    told = capsys.readouterr().out
    assert "tried 5, failed 4 (4 failed, 1 read)" in told
    assert all(f"1 {kind}" in told for kind in (trial.SLOW, trial.ENDLESS, trial.HANGS, trial.CRASHED))
