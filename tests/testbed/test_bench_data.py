"""What `bench data` makes of its copies."""

from testbed.bench_data import _ratios, _Route


def test_the_best_copy_counts_and_the_median_is_told() -> None:
    """A route's speed is its fastest copy by any way; its median is that of its best way."""
    route = _Route("hit", "root://xcache//data/a")
    for way, speeds in {"1_streams": (10.0, 90.0, 20.0), "4_streams": (50.0, 40.0, 60.0)}.items():
        for speed in speeds:
            route.note(way, speed)
    assert route.figures() == {
        "hit_mb_s": 90.0,
        "hit_median_mb_s": 50.0,
        "hit_1_streams_mb_s": 90.0,
        "hit_4_streams_mb_s": 60.0,
    }


def test_a_hit_is_held_against_its_own_caches_ceiling() -> None:
    """Each ratio is of two speeds of one container's network, or of one kind of encryption."""
    speeds = {
        "hit_mb_s": 40.0,
        "hit_in_the_clear_mb_s": 80.0,
        "hit_unchecked_mb_s": 60.0,
        "origin_mb_s": 50.0,
        "ceiling_mb_s": 200.0,
        "ceiling_in_the_clear_mb_s": 100.0,
    }
    assert _ratios(speeds) == {
        "hit_vs_ceiling_ratio": 0.8,
        "hit_encrypted_vs_ceiling_ratio": 0.2,
        "hit_vs_origin_ratio": 0.8,
        "hit_unchecked_vs_origin_ratio": 1.2,
    }
