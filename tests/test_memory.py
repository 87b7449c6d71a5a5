"""The process gives memory back that it does not use any more."""

import subprocess
import sys

import pytest

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
