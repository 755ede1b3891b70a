"""The maps that a file can return, and the feature maps that some are made of."""
