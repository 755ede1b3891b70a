"""Results on disk: lines, formats, names, the logs of runs."""
