"""Starts LLM Companion: settings, build, serve. It holds no logic of its own."""

from companion.cli import leave, serve_app

if __name__ == "__main__":
    leave(serve_app())
