"""Desired state as data, and the pure decisions that make it true."""
