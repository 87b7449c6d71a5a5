"""Many people at once meet no error; how much later their first word comes is measured by `make load`."""

from tests.load import run


def test_twenty_people_at_once_get_whole_answers():
    alone, together = run(20, alone_s=1, together_s=8)
    assert alone.faults + together.faults == []
    assert alone.answers >= 1
    assert together.answers >= 20
