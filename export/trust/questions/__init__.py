"""The questions of a trust report: one file and one row each."""
