"""MLServer and KServe: a folder that MLServer starts, and the model that runs in it."""
