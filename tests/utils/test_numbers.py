"""Numbers as people read them."""

import pytest

from nasfast.utils.numbers import metric_text, number_text, percent_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1.0, "1"), (-7.0, "-7"), (1234567.0, "1,234,567"), (0.93, "0.93"), (0.931267, "0.931267"),
        (0.9312671, "0.931267"), (-961.25, "-961.25"), (1e-8, "1e-08"), (1e24, "1e+24"), (12345.678, "12345.7"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert number_text(value) == text


def test_accuracies_of_one_image_in_ten_thousand_stay_apart():
    shares = [right / 10_000 for right in range(10_001)]
    assert len({number_text(share) for share in shares}) == len({percent_text(share) for share in shares}) == 10_001


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test_accuracy", 0.9321, "93.21 %"), ("valid_accuracy", 1.0, "100.00 %"), ("score", 0.9321, "0.9321"),
        ("params", 1234567, "1,234,567"), ("latency", 1.25, "1.25"),
    ],
)  # fmt: skip
def test_metric_is_in_percent_where_it_is_an_accuracy(name, value, text):
    assert metric_text(name, value) == text
