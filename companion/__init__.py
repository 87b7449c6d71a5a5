"""LLM Companion: ask your own documents, on your own machine, with your own models."""

__version__ = "0.1.0"
