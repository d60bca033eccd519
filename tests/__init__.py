"""Tests of Pinghub; ``python -m twisted.trial tests`` runs them all."""

import os

if "MUTANT_UNDER_TEST" in os.environ:
    # mutmut runs each test many times in one process, and each time on a new instance. The
    # examples are the same in each run, so that the survivors are.
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "mutants", suppress_health_check=[HealthCheck.differing_executors], derandomize=True
    )
    settings.load_profile("mutants")
