"""Errors that a person can act on.

    AtlasError              exit code 1
    ├── UsageError          2    a bad argument or an unknown name
    ├── InputError          3    a bad file, a wrong shape, an unknown behaviour
    ├── StoreError          4    the atlas on disk
    │   ├── DamagedError         a hash, count or reference is wrong
    │   ├── VersionError         written by another format version
    │   └── LockedError          somebody else holds it
    ├── QueryError          5    SQL that is wrong or not allowed
    ├── ModelError          6    NaN, out of memory, unknown family
    ├── GateError           7    the model does not do the behaviour well enough
    └── InterruptedRun      130  stopped by a person; the run can be resumed

A message gives the value, the bound and, as `hint`, the next step.
"""


class AtlasError(Exception):
    """Report a failure to a person, with what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class UsageError(AtlasError):
    """A bad argument or an unknown name."""

    exit_code = 2


class InputError(AtlasError):
    """A bad file, a wrong shape, an unknown behaviour."""

    exit_code = 3


class StoreError(AtlasError):
    """Something is wrong with the atlas on disk."""

    exit_code = 4


class DamagedError(StoreError):
    """A hash, a count or a reference is wrong."""


class VersionError(StoreError):
    """The file was written by another format version."""


class LockedError(StoreError):
    """Somebody else holds what is needed."""


class QueryError(AtlasError):
    """SQL that is wrong or not allowed."""

    exit_code = 5


class ModelError(AtlasError):
    """The model gave NaN, ran out of memory, or is of an unknown family."""

    exit_code = 6


class GateError(AtlasError):
    """The model does not do the behaviour well enough to be analysed."""

    exit_code = 7


class InterruptedRun(AtlasError):
    """A person stopped the run; the same command resumes it."""

    exit_code = 130
