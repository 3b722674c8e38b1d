"""States of the pools are drawn by a seed, and each fits what its person may submit."""

from random import Random

from testbed.planted_pools import drawn


def test_the_same_seed_draws_the_same_states() -> None:
    """And another seed others; no state is beyond what one person may have in the queue."""
    states = [[drawn(random) for _ in range(50)] for random in map(Random, (1, 1, 2))]
    assert states[0] == states[1]
    assert states[0] != states[2]
    for fillers in states[0]:
        assert sum(filler.jobs for filler in fillers if filler.backend == "slurm") <= 200
        assert len({(f.backend, f.partition) for f in fillers}) == len(fillers)
    sizes = [len(fillers) for fillers in states[0]]
    assert min(sizes) <= 1
    assert max(sizes) == 4
