"""A file into arrays.

Providers, IO binding, the graph's interface. Knows no picture and no kind of map.
"""
