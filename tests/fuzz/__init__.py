"""Damaged and hostile inputs, made by number, and what the commands do with them.

A kind of input is one module and one row of `KINDS`: from a seeded generator it writes files into
an empty folder and says which command line to run there. `runner` counts what came of it: a command
works, or it refuses in words with a fix, and nothing else. `python -m tests.fuzz` runs many.
"""
