"""Features as of every row of a spine, whole columns at a time."""
