"""The Ray processes that hold state, and where it goes when one of them dies.

The door is narrow because each process is started by name and asked through its handle.
"""

from actors.control.loop import start_control
from actors.online.prediction_writer import start_prediction_writer

__all__ = ["start_control", "start_prediction_writer"]
