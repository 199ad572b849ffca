"""The control plane: desired state, and the loop that makes it true."""
