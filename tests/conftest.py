"""How fast a machine is decides no test."""

from hypothesis import HealthCheck, settings

# What there is by default (in CI: the same examples every time), but for the limits on time.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")
