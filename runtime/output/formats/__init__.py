"""Boxes in the formats that other programs read: a row each, from a module of its own."""
