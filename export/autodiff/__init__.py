"""Reverse-mode differentiation: the walk back, the registry of rules, the axis of the classes."""
