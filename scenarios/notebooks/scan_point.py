"""One point of the grid scan: limits for a signal at (x, y), as one row of a ROOT file.

    python scan_point.py MASS X Y OUTPUT

A counting experiment: the signal grows with the coupling y, the background falls with x.
Observed counts and pseudo-experiments come from a generator seeded by the point, and from
numpy's frozen legacy stream, so every machine computes the same row.
"""

import math
import sys

import numpy as np

COLUMNS = ("mass", "x", "y", "CLb_med", "CLb_obs", "mu_hat_exp", "mu_hat_obs",
           "param0", "param1", "param2")  # fmt: skip
TOYS = 20_000


def expected(mass: float, x: float, y: float) -> tuple[float, float]:
    """Expected signal and background events."""
    return 400.0 * y**2 * (3000.0 / mass), 120.0 * (1.0 - x)


def poisson_cdf(n: int, mean: float) -> float:
    """P(N <= n) of a Poisson distribution."""
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1))


def row(mass: float, x: float, y: float) -> dict[str, float]:
    """The point's row: CLb by pseudo-experiments, best-fit signal strengths."""
    signal, background = expected(mass, x, y)
    stream = np.random.RandomState(round(1000 * x) * 1000 + round(1000 * y))
    observed = int(stream.poisson(background))
    toys = stream.poisson(background, TOYS)
    return {
        "mass": mass,
        "x": x,
        "y": y,
        "CLb_med": float(np.mean(toys <= np.median(toys))),
        "CLb_obs": float(np.mean(toys <= observed)),
        "mu_hat_exp": 0.0,
        "mu_hat_obs": (observed - background) / signal,
        "param0": signal,
        "param1": background,
        "param2": float(observed),
    }


def main(mass: str, x: str, y: str, output: str) -> None:
    import uproot

    values = row(float(mass), float(x), float(y))
    with uproot.recreate(output) as file:
        tree = file.mktree("stats", dict.fromkeys(COLUMNS, "float64"))
        tree.extend({name: np.array([values[name]]) for name in COLUMNS})


if __name__ == "__main__":
    main(*sys.argv[1:])
