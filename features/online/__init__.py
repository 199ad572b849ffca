"""Features at the moment of a request: values with their states and positions."""

from features.online.served import NOWHERE, Position, Served

__all__ = ["NOWHERE", "Position", "Served"]
