"""The exporting commands: `backlit export`, `verify`, `check`, `ops`, `bench`."""
