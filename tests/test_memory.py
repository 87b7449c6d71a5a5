"""The process gives memory back that it does not use any more, and looks for garbage when it serves."""

import subprocess
import sys

import pytest

from tests.browser import free_port
from tests.test_web import options, run

FREED = """
import ctypes, sys, psutil
if sys.argv[1] == "ours":
    from companion.memory import give_back_memory
    give_back_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 30_000_000
# Freeing a large block is what makes glibc keep the next ones.
c.free(c.malloc(size))
before = psutil.Process().memory_info().rss
block = c.malloc(size - 1_000_000)
ctypes.memset(block, 1, size - 1_000_000)
c.free(block)
print((psutil.Process().memory_info().rss - before) / size)
"""


def kept(how):
    done = subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_a_large_block_that_is_freed_leaves_the_process():
    assert kept("theirs") > 0.5, "glibc gives it back by itself: this test shows nothing"
    assert kept("ours") < 0.1


COLLECTING = """
import gc, sys
import companion_app
from companion.web import EndSignal
started = gc.isenabled()
EndSignal.wait = lambda end: print(started, gc.isenabled(), gc.get_freeze_count() > 100_000)
companion_app.serve_app(sys.argv[1:])
"""


def test_garbage_is_collected_once_the_app_serves_and_not_before(tmp_path):
    said = run("-c", COLLECTING, *options(tmp_path, free_port()))
    assert said.stdout.splitlines()[-1:] == ["False True True"], said.stderr


def test_who_never_stopped_collecting_keeps_nothing_from_it():
    code = "from companion.memory import collect_from_now_on as begin; begin()"
    assert run("-c", f"{code}; import gc; print(gc.get_freeze_count())").stdout == "0\n"
