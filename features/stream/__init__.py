"""Events as they come: a log, and what a stream of them does to features."""
