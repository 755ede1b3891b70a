"""Backlit in other people's servers: what they load, and what runs in their processes."""
