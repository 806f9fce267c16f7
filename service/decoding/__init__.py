"""Decoding of what callers send, in processes that may die of it (decision 26)."""
