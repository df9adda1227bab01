"""Parsers of options: what they write they read, and any text is a value or a ConfigError."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nasfast.config.budget import Budget, Spent, check_budget
from nasfast.config.objectives import Constraint, Objective
from nasfast.errors import ConfigError
from nasfast.spaces.hyperparameters import TUNABLE, join_text, parse_tuned, shorten, split_text, tunable, value_text
from tests.helpers.texts import near

UNITS = {"s": 1, "seconds": 1, "m": 60, "min": 60, "minutes": 60, "h": 3600, "hours": 3600, "d": 86400, "day": 86400}
amounts = st.one_of(st.integers(1, 10**6).map(str), st.decimals("0.01", "9999", places=2).map(str))


@st.composite
def budgets(draw: st.DrawFn) -> tuple[str, Budget]:
    """A text and what it says."""
    parts, found = [], {}
    for name in draw(st.lists(st.sampled_from(["trials", "seconds", "cpu_hours", "gpu_hours"]), unique=True)):
        blank = draw(st.sampled_from(["", " "]))
        if name == "trials":
            found[name] = count = draw(st.integers(1, 10**9))
            parts.append(f"{count}{blank}{draw(st.sampled_from(['trials', 'trial', 'Trials']))}")
            continue
        amount = draw(amounts)
        unit = draw(st.sampled_from(list(UNITS))) if name == "seconds" else name.replace("_", "-")
        found[name] = float(amount) * UNITS.get(unit, 1)
        parts.append(f"{amount}{blank}{unit}")
    return draw(st.sampled_from([",", ", "])).join(parts), Budget(**found)


@given(budgets())
def test_a_budget_is_what_its_text_says(case: tuple[str, Budget]) -> None:
    text, budget = case
    assert Budget.parse(text) == budget
    assert budget.timed == any((budget.seconds, budget.cpu_hours, budget.gpu_hours))


@settings(max_examples=500)
@given(near(budgets().map(lambda case: case[0])))
def test_any_text_is_a_budget_or_an_error(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except ConfigError:
        return
    limits = [budget.trials, budget.seconds, budget.cpu_hours, budget.gpu_hours]
    assert all(limit is None or 0 < limit < math.inf for limit in limits)
    assert not budget.is_spent(Spent())
    if budget.gpu_hours is None:
        assert check_budget(text, "cpu") == budget


names = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,8}", fullmatch=True)
blanks = st.sampled_from(["", " "])


@given(names, st.booleans(), blanks)
def test_an_objective_is_what_its_text_says(metric: str, maximise: bool, blank: str) -> None:
    objective = Objective(metric, maximise)
    assert Objective.parse(str(objective)) == objective
    assert Objective.parse(f"{blank}{'+' if maximise else '-'}{blank}{metric}{blank}") == objective


@given(names, st.booleans(), st.floats(-1e12, 1e12), st.sampled_from(["", "K", "M", "G"]), blanks)
def test_a_constraint_is_what_its_text_says(metric: str, upper: bool, limit: float, unit: str, blank: str) -> None:
    sign = "<=" if upper else ">="
    found = Constraint.parse(f"{metric}{blank}{sign}{blank}{limit!r}{unit}")
    assert found == Constraint(metric, upper, limit * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[unit])
    assert found.violation({metric: found.limit}) == 0
    beyond = found.limit + (1 if upper else -1) * max(1.0, abs(found.limit))
    assert found.violation({metric: beyond}) > 0
    assert found.violation({metric: 2 * found.limit - beyond}) == 0


right = st.sampled_from(["params<=1.5M", "score>=0.9", "flops <= 3e8", "-params", "score", "latency_ms<=2K"])


@settings(max_examples=500)
@given(near(right))
def test_any_text_is_an_objective_and_a_constraint_or_an_error(text: str) -> None:
    for kind in (Objective, Constraint):
        try:
            found = kind.parse(text)  # type: ignore[attr-defined]
        except ConfigError:
            continue
        assert kind.parse(str(found)).metric == found.metric  # type: ignore[attr-defined]
        assert not isinstance(found, Constraint) or math.isfinite(found.limit)


@st.composite
def tuned(draw: st.DrawFn) -> tuple[str, tuple[Any, ...]]:
    """A setting and different values of it."""
    name = draw(st.sampled_from(list(TUNABLE)))
    setting = TUNABLE[name]
    if setting.kind is bool:
        values: st.SearchStrategy[Any] = st.booleans()
    elif setting.kind is int:
        values = st.integers(int(setting.low), 4096)
    else:
        values = st.floats(setting.low, min(setting.high, 10.0), exclude_min=setting.above, exclude_max=setting.below)
    found = draw(st.lists(values, min_size=1, max_size=4, unique=True))
    return name, tuple(found)


@given(tuned())
def test_settings_are_what_their_text_says(case: tuple[str, tuple[Any, ...]]) -> None:
    name, values = case
    assert parse_tuned([f"{name}={','.join(map(value_text, values))}"]) == {name: values}
    text = join_text("some @ arch", {name: values[0]})
    assert split_text(text) == ("some @ arch", {name: values[0]})
    assert split_text(shorten(text, 4)) == ("som…", {name: values[0]})


@settings(max_examples=500)
@given(near(tuned().map(lambda case: f"{case[0]}={','.join(map(value_text, case[1]))}")))
def test_any_text_is_settings_or_an_error(text: str) -> None:
    try:
        found = parse_tuned([text])
    except ConfigError:
        return
    for name, values in found.items():
        assert len(set(values)) == len(values) > 0
        for value in values:
            tunable(name).check(name, value)


@given(st.sampled_from([n for n, s in TUNABLE.items() if s.kind is not bool]), st.data())
def test_a_range_has_its_ends_and_nothing_beyond_them(name: str, data: st.DataObject) -> None:
    setting = TUNABLE[name]
    if setting.kind is int:
        ends: st.SearchStrategy[Any] = st.integers(int(setting.low), 4096)
    else:
        ends = st.floats(max(setting.low, 1e-6), min(setting.high - 0.01, 10.0))
    low, high = sorted(data.draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    assume(high >= 1.1 * low)  # eight values that lie apart by more than they are rounded
    values = parse_tuned([f"{name}={low!r}..{high!r}"])[name]
    assert (values[0], values[-1]) == (low, high)
    assert all(low <= value <= high for value in values)
    assert list(values) == sorted(values)
    assert 2 <= len(values) <= 8


@pytest.mark.parametrize("text", ["9" * 400 + " trials", "9" * 400 + "s", "9" * 400 + " gpu-hours"])
def test_a_budget_beyond_all_numbers_is_refused(text):
    with pytest.raises(ConfigError, match="--budget must be like"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["batch_size=" + "9" * 400, "lr=1e999"])
def test_a_training_setting_beyond_all_numbers_is_refused(text):
    with pytest.raises(ConfigError, match="--tune"):
        parse_tuned([text])


@pytest.mark.parametrize(
    ("text", "low", "high"), [("lr=0.01001..0.01002", 0.01001, 0.01002), ("momentum=0.99951..0.9999", 0.99951, 0.9999)]
)
def test_values_of_a_narrow_range_lie_in_it(text, low, high):
    values = next(iter(parse_tuned([text]).values()))
    assert values[0] == low
    assert values[-1] == high
    assert all(low <= value <= high for value in values)
    assert list(values) == sorted(values)


def test_a_constraint_is_written_as_exactly_as_it_was_read():
    constraint = Constraint.parse("params<=1234567")
    assert str(constraint) == "params<=1234567"
    assert Constraint.parse(str(constraint)) == constraint
