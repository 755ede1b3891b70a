"""Gradients of onnx's own operator tests: `make oracle`."""
