"""Triton kernels behind the plain functions of models/, which say what they compute (models/backend.py chooses).

blocks puts them together: attention (with rotary before it, attention_backward, heads), the narrow MLP (mlp,
mlp_backward, rows) and the wide one (gate_up), norm, noise, sru; silu is inside others. weights keeps copies of the
weights as kernels read them; graph records what they do.
"""
