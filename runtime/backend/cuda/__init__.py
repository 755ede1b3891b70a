"""Runs on an NVIDIA GPU: its driver, buffers per shape, streams, CUDA graphs."""
