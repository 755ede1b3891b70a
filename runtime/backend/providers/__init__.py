"""The execution providers: a row each, from a module of its own, and their table."""
