"""pip in a child: `python -m companion.inference.pip_process download …`, which ends with its parent.

It does not know what is downloaded. What pip says of a failure is its answer.
"""

from __future__ import annotations

import os
import runpy

from companion.child import follow_parent


def main() -> None:
    follow_parent()
    os.dup2(1, 2)
    # It reads its arguments where ours are, and ends with an exit code.
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
