"""What can go wrong, told apart by exit code: 1 judged and failed, 2 usage, 3 the testbed broke."""


class ExplainedError(Exception):
    """A failure with its cure: what was wanted, what was seen, what to do next."""

    exit_code = 3

    def __init__(self, what: str, *, seen: str = "", cure: str = "") -> None:
        self.what = what
        self.seen = seen.strip("\n")
        self.cure = cure
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.seen:
            # Several lines (log tails) stand better on lines of their own.
            text += f":\n{self.seen}" if "\n" in self.seen else f": {self.seen}"
        if self.cure:
            text += f"\n  try: {self.cure}"
        return text


class ScenarioFailed(ExplainedError):
    """The facility was judged and found wanting."""

    exit_code = 1


class LoginRefused(ScenarioFailed):
    """Name, password or code were not taken; `seen` has the login page's own words."""


class NotInTime(ScenarioFailed):
    """What was promised had not come when the time was over."""


class UsageError(ExplainedError):
    """What was typed, or stands in a file that a person wrote, cannot be followed."""

    exit_code = 2


class TestbedError(ExplainedError):
    """The harness or the machine under it broke, so nothing was judged."""

    __test__ = False  # pytest must not take the name for a test class
    exit_code = 3
