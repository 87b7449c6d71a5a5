"""Measurements against the raw library in the same run; never assertions."""
