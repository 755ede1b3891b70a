"""On an NVIDIA GPU: `make gpu-bench`, `make gpu-check`."""
