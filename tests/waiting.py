"""Waiting for something to come about. It does not know what is waited for."""

import time

PATIENCE_S = 60.0
"""Long enough on a machine with other work: what takes so long will never come."""


def until(condition, seconds=PATIENCE_S, pause_s=0.01, pause=None):
    """What `condition` gives as soon as that counts as true; a failure when it never does."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, "it did not come about"
        pause() if pause else time.sleep(pause_s)
    return found
