"""The errors of an audit that cannot be made."""

from ..features.module_features import ModuleError


class AuditError(ValueError):
    """What keeps an audit from being made: a file, a key, a shape, a layer."""


class NotEstimated(AuditError):
    """The number of samples could not be estimated, and without it the head cannot be attacked."""


class BodyError(AuditError, ModuleError):
    """A model whose body the audit cannot attack, and why."""
