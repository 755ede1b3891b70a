"""Triton: a model repository, and the models of it that run in Triton's Python backend."""
