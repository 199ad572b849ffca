"""The processes of the online plane: what streams in, and what was answered."""
