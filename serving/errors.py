"""What can go wrong between a request and its answer."""

from __future__ import annotations

from features.errors import BadInput, Conflict, DamagedData, NotFound, TondoError, Unavailable


class ServingError(TondoError):
    """Base of the prediction service's errors."""


class UnknownModel(ServingError, NotFound):
    """No model of that name is being served."""


class Unauthorized(ServingError):
    """The request carries no key, or one that is not known."""


class TooLarge(ServingError, BadInput):
    """The request is larger than the service reads."""


class Overloaded(ServingError, Unavailable):
    """The replica has as much in flight as it accepts; trying again is safe."""


class PackageRefused(ServingError, DamagedData):
    """A package did not pass its digest or its trial load; the version before it goes on."""


__all__ = [
    "BadInput",
    "Conflict",
    "DamagedData",
    "NotFound",
    "Overloaded",
    "PackageRefused",
    "ServingError",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnknownModel",
]
