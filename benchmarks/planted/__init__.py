"""Faults planted in copies of the package: does verification refuse them, do the tests see them?"""
