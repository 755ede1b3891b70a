"""Pixels into maps: the kinds of maps and which classes they explain. Knows no box."""
