"""What can go wrong, as the person at the terminal should read it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every headless command; documented in ``--help``."""

    PASSED = 0
    FAILED = 1  # a step or a check failed
    USAGE = 2  # wrong arguments, or a profile with errors
    REFUSED = 3  # preflight said no; nothing was touched
    LAB = 4  # libvirt, QEMU, SSH or the disk failed
    INTERRUPTED = 130


class LabError(Exception):
    """Something failed: what happened, to which thing, and what to do next.

    ``str(error)`` is one or more lines for a person. ``hint`` is the fix, as a sentence or a command.
    A traceback shown to a user is a bug; a ``LabError`` is not.
    """

    exit = Exit.LAB

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LabError):
    """The person asked for something that cannot be: bad argument, bad profile, unknown name."""

    exit = Exit.USAGE


class Refused(LabError):
    """A precondition is not met, and nothing has been touched."""

    exit = Exit.REFUSED


class StepError(LabError):
    """A step or a check of a run failed in the guest: the profile's business, not the lab's."""

    exit = Exit.FAILED


class Interrupted(LabError):
    """A person asked to stop."""

    exit = Exit.INTERRUPTED


class DeadlineError(LabError):
    """Something took longer than it may."""
