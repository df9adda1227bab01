"""How hypothesis draws: the same examples in every run; `--hypothesis-profile=seek` looks for new ones."""

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "same", derandomize=True, deadline=None, max_examples=60, database=None, suppress_health_check=SLOW
)
settings.register_profile(
    "seek", deadline=None, max_examples=2000, database=None, print_blob=True, suppress_health_check=SLOW
)
settings.load_profile("same")
