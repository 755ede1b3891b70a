"""Backlit beside peers, on a CPU: `make bench`."""
