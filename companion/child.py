"""A child process: how it starts, how it is limited, and that it never outlives its parent.

Knows pipes, limits and signals. It does not know what the child does: that is the module it
is started with, `python -m companion.…`, which calls `follow_parent()` first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import IO

from companion.config import REPOSITORY, child_environment

LIFELINE = "COMPANION_LIFELINE_FD"


class Child:
    """A running child. Talks over `stdin` and `stdout` in bytes; `kill` is the normal end."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        nice: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment`: more variables, unless the person has set them."""
        read_end, self._lifeline = os.pipe()
        os.set_inheritable(read_end, True)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=REPOSITORY,
                env={
                    **(environment or {}),
                    **child_environment(),
                    LIFELINE: str(read_end),
                    "COMPANION_NICE": str(nice),
                },
                pass_fds=(read_end,),
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> int | None:
        """Exit code, or None if it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End it now and collect it, from any thread; the pipes stay open for whoever reads them."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it now, collect it and close its pipes; harmless when it has ended already.

        Not while another thread reads: who waits for a pipe that is closed may wait for ever.
        """
        self.end()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # A broken pipe only says that the child was first to go.
                with contextlib.suppress(OSError):
                    stream.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def follow_parent() -> None:
    """In the child: end within a second of the parent's death, however it died.

    The parent holds the other end of a pipe and never writes; end-of-file means it is gone.
    """
    # Ctrl-C at a terminal reaches children, too: they have nothing to say about it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.nice(int(os.environ.get("COMPANION_NICE", "0")))
    lifeline = int(os.environ[LIFELINE])

    def watch() -> None:
        os.read(lifeline, 1)
        os._exit(3)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    _die_by_signal(lifeline)


def _die_by_signal(lifeline: int) -> None:
    """The thread above waits while a C function holds the interpreter; the kernel does not.

    When the other end closes, it sends SIGIO, whose default action ends the process.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def limit_resources(
    *, memory_bytes: int | None = None, cpu_s: int | None = None, file_bytes: int | None = None
) -> None:
    """In the child: hard limits of the operating system, where it has them (not on Windows)."""
    try:
        import resource
    except ImportError:
        return
    limits = (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
    )
    for which, limit in limits:
        if limit is not None:
            _set_limit(resource, which, limit)


def _set_limit(resource: ModuleType, which: int, limit: int) -> None:
    """Both limits, but never above a hard limit that holds already: that is refused."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(which, (limit, limit))


def allow_cpu(seconds: int) -> None:
    """In the child: end it after so much more computing. For children that do one job after another."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


_NETWORK_EVENTS = frozenset(
    f"socket.{call}"
    for call in "connect bind sendto sendmsg getaddrinfo gethostbyname gethostbyaddr getnameinfo".split()
)


def refuse_network() -> None:
    """In the child: any attempt to connect or look up a host raises `PermissionError`."""

    def audit(event: str, _arguments: tuple[object, ...]) -> None:
        if event in _NETWORK_EVENTS:
            raise PermissionError("no network here")

    sys.addaudithook(audit)
