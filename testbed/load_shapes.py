"""How a load comes and goes: when people arrive, whether they come again, until when they stay."""

import bisect
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

# A tutorial's people arrive around this part of its time, and leave together at that one.
_TUTORIAL_BEGIN, _TUTORIAL_SPREAD, _TUTORIAL_END = 0.10, 0.04, 0.85


@dataclass(frozen=True)
class Shape:
    """A load over time. Times count in seconds from its begin.

    `arrivals_s` are in order. People who come `again` do so until the time is over; others
    visit once. With `stay_until_s` everybody keeps their server until then. With `together`
    nobody begins before all are logged in.
    """

    name: str
    arrivals_s: tuple[float, ...]
    again: bool = False
    stay_until_s: float | None = None
    together: bool = False

    def arrived(self, t_s: float) -> int:
        """How many have arrived until then."""
        return bisect.bisect_right(self.arrivals_s, t_s)


def steady(people: int, seconds: float, seed: int) -> Shape:  # noqa: ARG001
    """Everybody comes again and again; they arrive spread over the first tenth of the time."""
    return Shape("steady", _evenly(people, seconds / 10), again=True)


def burst(people: int, seconds: float, seed: int) -> Shape:  # noqa: ARG001
    """Everybody at the same moment, once."""
    return Shape("burst", (0.0,) * people, together=True)


def ramp(people: int, seconds: float, seed: int) -> Shape:  # noqa: ARG001
    """One more and one more, over four fifths of the time; who is there comes again and again."""
    return Shape("ramp", _evenly(people, seconds * 0.8), again=True)


def tutorial(people: int, seconds: float, seed: int) -> Shape:  # noqa: ARG001
    """A tutorial's morning: all arrive around its begin, stay, and leave together."""
    bell = statistics.NormalDist(_TUTORIAL_BEGIN * seconds, _TUTORIAL_SPREAD * seconds)
    arrivals = (max(0.0, bell.inv_cdf((n + 0.5) / people)) for n in range(people))
    return Shape("tutorial", tuple(arrivals), stay_until_s=_TUTORIAL_END * seconds)


def poisson(people: int, seconds: float, seed: int) -> Shape:
    """Independent arrivals, one a person and minute on average; each visits once.

    Who arrives while everybody is in is turned away. The same seed gives the same arrivals.
    """
    luck = Random(seed)  # noqa: S311 - nothing secret
    arrivals = []
    at_s = luck.expovariate(people / 60)
    while at_s < seconds:
        arrivals.append(at_s)
        at_s += luck.expovariate(people / 60)
    # A run without anybody would measure nothing.
    return Shape("poisson", tuple(arrivals) or (0.0,))


SHAPES: Mapping[str, Callable[[int, float, int], Shape]] = {
    shape.__name__: shape for shape in (steady, burst, ramp, tutorial, poisson)
}


def _evenly(people: int, seconds: float) -> tuple[float, ...]:
    return tuple(n * seconds / people for n in range(people))
