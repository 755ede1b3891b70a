"""Where classifiers come from: files, names, callables, modules."""
