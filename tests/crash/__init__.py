"""Kills, torn files and full disks: what the product promises to survive, done to it again and again.

`python -m tests.crash` runs all of it; the ordinary tests run a few of each.
"""
