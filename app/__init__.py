"""The control plane: desired state, the loop that makes it true, and the command line.

Nobody imports this room; its doors are ``tondo`` and the control actor.
"""

from app.errors import AppError, SettingsError, Usage

__all__ = ["AppError", "SettingsError", "Usage"]
