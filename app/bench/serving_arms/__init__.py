"""The baselines of the serving benchmark, each in a process of its own."""
