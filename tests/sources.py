"""Source code as a tree, for tests that read it."""

import ast
import gc


def tree_of(source):
    """Python 3.11 gives a SystemError where garbage collected in the middle of it parses something, too."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if collects:
            gc.enable()
