"""How long tests go on that try many cases at random: all of them with ``make stress``.

``ODDJOB_STRESS_ROUNDS`` says so; without it, a test tries as many cases as show that it works.
"""

import os

IS_LONG = "ODDJOB_STRESS_ROUNDS" in os.environ
TIMEOUT = 3600 if IS_LONG else 60  # seconds, of a test that does more when it is long


def examples(count: int) -> int:
    """Return how many examples Hypothesis tries where `make stress` tries `count`."""
    return count if IS_LONG else count // 4
