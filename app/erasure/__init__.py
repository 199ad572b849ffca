"""Erasing one entity everywhere, and the proof of it."""
