"""Benchmarks: what the workflow's stages cost beside the textbook procedure, on the same work."""
