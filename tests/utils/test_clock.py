"""Seconds over sessions."""

import pytest

from nasfast.utils.clock import Stopwatch


def test_a_stopwatch_goes_on_from_what_it_is_set_to(monkeypatch):
    now = 100.0
    monkeypatch.setattr("nasfast.utils.clock.monotonic", lambda: now)
    watch = Stopwatch()
    now = 102.5
    assert watch.seconds == pytest.approx(2.5)
    watch.set(10.0)  # of an earlier session
    now = 103.0
    assert watch.seconds == pytest.approx(10.5)
