"""What the kernels can hold. This file needs no Triton."""

WIDEST_HEAD = 64
"""Features of the widest head that the attention kernel takes."""
WIDEST_KERNEL_ROW = 128
"""Features of the widest row that a kernel with a matrix product holds."""
