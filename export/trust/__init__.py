"""Reasons to trust a file's maps, measured: the report of `backlit verify --report`."""
