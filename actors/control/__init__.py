"""The process that carries the control plane."""
