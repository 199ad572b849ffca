"""Starting, stopping and looking at everything that runs for long."""
