"""Graphs of ONNX: facts about values, operators to emit, weights, named rewrites."""
