"""Controlled comparison of the ways to unify multimodal understanding and generation."""

__version__ = "0.1.0"
