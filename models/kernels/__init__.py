"""Triton kernels for NVIDIA GPUs. README.md maps each to the plain code whose results it computes."""
