"""What goes wrong between a notebook and a scheduler, in words for the person."""

from __future__ import annotations


class JobsError(Exception):
    """Anything of this package; the message says what was asked, the limit, and the cure."""


class WrongRequest(JobsError):
    """What was asked is wrong before anything is submitted: each field is named."""


class NotHere(JobsError):
    """This session or environment lacks what it takes: a package, a program, a scheduler."""


class Refused(JobsError):
    """The scheduler answered, and does not do it."""


class SchedulerAway(JobsError):
    """The scheduler does not answer; what was there before is still there."""


class NotInTime(JobsError, TimeoutError):
    """It took longer than was allowed; nothing was ended by that."""
