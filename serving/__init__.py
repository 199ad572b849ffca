"""The prediction service: from a request to an answer, and what is learnt from it."""

from serving.desired import DesiredModel, DesiredState
from serving.predictor import Loaded, OnlineFeatures, Predictor
from serving.replica import Replica
from serving.slots import ModelSlots, SlotStatus

__all__ = [
    "DesiredModel",
    "DesiredState",
    "Loaded",
    "ModelSlots",
    "OnlineFeatures",
    "Predictor",
    "Replica",
    "SlotStatus",
]
