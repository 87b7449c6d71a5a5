"""Libraries that would report to their makers do not, and children say nothing at Ctrl-C."""

import os
import signal
import subprocess
import sys

from companion.child import LIFELINE
from companion.config import QUIET_ENVIRONMENT, REPOSITORY, child_environment

IMPORT = "from companion.config import quiet_libraries; quiet_libraries(); import onnxruntime"
FOLLOW = "from companion.child import follow_parent; follow_parent(); print(1, flush=True); input()"


def test_onnx_runtime_opens_no_session_of_its_telemetry(tmp_path):
    inherited = {name: value for name, value in os.environ.items() if name not in QUIET_ENVIRONMENT}
    subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=REPOSITORY,
        env={**inherited, "TMPDIR": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_hears_ctrl_c_ends_without_a_word():
    reads, writes = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW],
        cwd=REPOSITORY,
        env={**child_environment(), LIFELINE: str(reads)},
        pass_fds=(reads,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"1\n"
        child.send_signal(signal.SIGINT)
        _out, err = child.communicate(timeout=60)
    os.close(reads)
    os.close(writes)
    assert child.returncode == -signal.SIGINT
    assert err == b""
