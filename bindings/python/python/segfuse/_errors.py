"""The exceptions of segfuse. Each is an :class:`Error` and the builtin that fits it."""


class Error(Exception):
    """Anything that segfuse refuses. Nothing has been computed or written when it is raised."""


class InvalidValue(Error, ValueError):
    """A shape, a setting, a spec string or a number that does not fit; the message has the numbers."""


class InvalidType(Error, TypeError):
    """An element type, or an object that is no array."""


class DeviceError(Error, RuntimeError):
    """A device that is not there, that this build does not reach, or that has failed."""
