"""A library against a dictionary, a few times; `python -m tests.crash --only library` does it for long."""

from hypothesis import HealthCheck, settings

from tests.crash.machine import LibraryMachine

LibraryMachine.TestCase.settings = settings(
    max_examples=4,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    database=None,
)
TestAnythingDoneToALibrary = LibraryMachine.TestCase
