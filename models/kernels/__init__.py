"""Triton kernels behind the plain functions of models/, which say what they compute (models/backend.py chooses)."""
