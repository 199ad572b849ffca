"""Trainers: each knows one library; import the one you need."""
