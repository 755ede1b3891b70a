"""The gradient in the finished graph against a reference that shares none of its code."""
