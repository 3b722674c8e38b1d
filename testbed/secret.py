"""A string that does not show itself."""


class Secret(str):
    """A password or token: usable as the string it is, hidden in tracebacks and logs.

    A traceback of pytest or rich shows the `repr` of every argument on the way.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"
