"""Starts LLM Companion: settings, build, serve. It holds no logic of its own."""

import gc

# A fifth of the start went into looking for garbage among modules, which stay. `serve` turns it on again.
gc.disable()

from companion.cli import leave, serve_app  # noqa: E402

if __name__ == "__main__":
    leave(serve_app())
