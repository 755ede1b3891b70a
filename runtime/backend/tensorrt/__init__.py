"""TensorRT engines: built, cached, checked, and files of one engine."""
