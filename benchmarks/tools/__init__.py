"""Classifiers as their own tools export them; __main__.py says how it is run."""
