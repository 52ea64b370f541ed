"""How hard the laws are tried: `HYPOTHESIS_PROFILE=ci` tries twenty times as many sessions."""

import os

from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example)

settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=300, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
