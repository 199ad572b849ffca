"""One aggregation algebra for batch, stream and request: empty, add, merge, finish."""
