"""What a file costs on a GPU, told without one: kernels, bytes, operations, time."""
