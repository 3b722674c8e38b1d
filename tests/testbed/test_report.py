"""The report is one page that says what results.json says, whoever wrote what is in it."""

import base64
import hashlib
import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from testbed import report
from testbed.errors import UsageError
from testbed.report import charts, numbers
from testbed.report.causes import causes
from testbed.report.page import HALF, NARROW, WIDE, render
from testbed.report.plain_text import HIDDEN, printable, without_secrets
from testbed.report.series import Series, series_of
from testbed.report.svg import Axis, round_up
from testbed.report.timeline import timeline
from testbed.report.verdict import verdict
from testbed.results import LoadAverage, Machine, Results, SpawnRecord

REAL = Path(__file__).parent.parent / "data" / "results-two-users.json"
BEGIN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOSTILE = (
    "\"'><img src=x onerror=alert(1)></title></style><script>alert(1)</script>{{7*7}}\u202e\x07&"
)


def spawn(ready_s: float = 1.0, *, at_s: float = 0.0, **changes: Any) -> SpawnRecord:
    """A spawn that was ready so many seconds after its click, unless `changes` say otherwise."""
    click = BEGIN.timestamp() + at_s
    own = {
        "click": click,
        "submitted": click + ready_s / 4,
        "hello": click + ready_s / 2,
        "ready": click + ready_s,
        "first_cell": click + ready_s * 1.5,
        "gone": click + ready_s * 2,
    }
    fields = {"user": "alice", "hub": "htc", "backend": "htcondor", "own_unix_s": own}
    return SpawnRecord.model_validate(fields | changes)


def run_of(*spawns: SpawnRecord, **changes: Any) -> Results:
    fields = {
        "command": "bench spawn",
        "site": "lab",
        "begin": BEGIN,
        "end": BEGIN + timedelta(seconds=90),
        "machine": Machine(
            cpus=2, memory_mib=8192, architecture="x86_64", kernel="6.1", python="3.11"
        ),
        "load_average_1min": LoadAverage(begin=0.5, end=1.5),
        "spawns": spawns,
    }
    return Results.model_validate(fields | changes)


class Seen(HTMLParser):
    """What a browser would make of a page: its elements, their attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_real_run() -> None:
    seen = Seen(render(Results.read(REAL)))
    words = " ".join(seen.text.split())
    assert "Failed: 19 of 20 spawns ready, 0 orphans" in words
    assert "n = 9, 1 failed" in words
    assert "the hub refused POST /user/alice/api/kernels: HTTP 403: Forbidden" in words
    for figure in ("4.02", "2.83", "5.27", "9.58"):  # medians and p95 of both backends
        assert figure in words
    assert words.count("All 20 spawns") == 1


def test_the_page_asks_nobody_for_anything() -> None:
    page = render(Results.read(REAL))
    seen = Seen(page)
    addresses = [
        v for name, v in seen.attributes if name in ("src", "href", "xlink:href", "action")
    ]
    assert addresses == ["data:,"]
    assert not re.search(r"https?://|url\(|@import|fetch\(|import\(", page)


def test_the_policy_lets_our_style_and_script_run_and_nothing_else() -> None:
    page = render(Results.read(REAL))
    policy = next(v for _, v in Seen(page).attributes if v and v.startswith("default-src 'none'"))
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    # Such a policy forbids them all, so one would only be silently without effect.
    assert not [name for name, _ in Seen(page).attributes if name == "style"]


def test_what_people_and_schedulers_wrote_stays_text() -> None:
    """Each free text of a results file may hold anything."""
    harmless = run_of(
        spawn(), spawn(2, outcome="failed", reason="no"), failures=["x"], figures={"x_s": 1.0},
        settings={"x": "x"}, versions={"x": "x"},
    )  # fmt: skip
    hostile = run_of(
        spawn(user=HOSTILE, server=HOSTILE, hub=HOSTILE, backend=HOSTILE),
        spawn(2, user=HOSTILE, server=HOSTILE, hub=HOSTILE, backend=HOSTILE, outcome="failed",
              reason=HOSTILE + " and more", options={HOSTILE: HOSTILE}),
        command=HOSTILE, site=HOSTILE, failures=[HOSTILE], figures={f"{HOSTILE}_s": 1.0},
        settings={HOSTILE: HOSTILE}, versions={HOSTILE: HOSTILE},
        machine={"cpus": 2, "memory_mib": 1, "architecture": HOSTILE, "kernel": HOSTILE,
                 "python": HOSTILE},
    )  # fmt: skip
    page = render(hostile)
    seen, usual = Seen(page), Seen(render(harmless))
    assert set(seen.tags) <= set(usual.tags)
    assert seen.tags.count("script") == usual.tags.count("script") == 1
    assert {name for name, _ in seen.attributes} <= {name for name, _ in usual.attributes}
    assert "<img" not in page
    assert seen.text.count("alert(1)") > 10  # it is shown, as the text that it is
    assert "{{7*7}}" in seen.text
    assert "\u202e" not in page
    assert "\x07" not in page


@pytest.mark.parametrize(
    "marked",
    [
        "GET /hub/api?token=«0123456789abcdef» failed",
        '{"access_token": "«abc.def-ghi»"}',
        "Authorization: Bearer «abcdefghijkl» refused",
        "header 'token «0a1b2c3d4e5f»' refused",
        "header 'bearer «0a1b2c3d-4e5f»' refused",
        "password: «wonderland» refused",
        "/oauth_callback?code=«Zm9vYmFy»&state=x",
        "«eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl» is no longer valid",
        "user «4f" + "0c" * 15 + "» unknown",
        "root://alice:«wonderland»@origin//data/x",
        "cookie=«2|1:0|10:1795282930|5:xsrf» unknown",
        "one-time code: «Zm9vYmFyYmF6cXV4»",
    ],
)
def test_no_token_is_shown(marked: str) -> None:
    before, secret, after = re.split("[«»]", marked)
    text = before + secret + after
    assert without_secrets(text) == before + HIDDEN + after
    page = render(run_of(spawn(outcome="failed", reason=text), failures=[f"smoke: {text}!"],
                         settings={"x": text}))  # fmt: skip
    assert secret not in page
    assert page.count(HIDDEN) >= 4  # among the failures, the errors, the spawns and the settings


@pytest.mark.parametrize(
    "text",
    [
        "HTTP code=403: job 147.0 is held: memory usage exceeded request_memory (2048 MiB)",
        "token verification failed: invalid token: signature mismatch; bearer authentication",
        "exit code: 1000000; status code: Forbidden",
        "Failed to connect to <192.168.160.10:9615?addrs=192.168.160.10-9615&alias=condor-ap-hub>",
        "token expired; /home/alice/analysis/with-a-rather-long-path/through/many/folders is full",
    ],
)
def test_a_reason_without_a_secret_is_shown_whole(text: str) -> None:
    assert without_secrets(text) == text


def test_the_same_results_make_the_same_bytes(tmp_path: Path) -> None:
    """Also in another process, whose sets and hashes have another order."""
    pages = []
    for seed in "12":
        folder = tmp_path / seed
        folder.mkdir()
        (folder / "results.json").write_bytes(REAL.read_bytes())
        done = command(str(folder), environ={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
        assert [p.name for p in sorted(folder.iterdir())] == [
                "junit.xml", "report.html", "results.json", "summary.md",
            ]  # fmt: skip
        pages.append((folder / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_bar_ends_where_the_table_says() -> None:
    series = Series("s", tuple(spawn(s / 10) for s in (11, 30, 12, 17, 13)))
    for _, q, _ in charts.BARS:
        steps = series.steps(q)
        assert [step[0] for step in steps] == ["submitted", "hello", "ready", "first_cell"]
        assert [step[1] for step in steps] == [0.0, *(step[2] for step in steps[:-1])]
        for phase, _, end in steps:
            assert end == series.quantile(phase, q)


def test_a_phase_that_some_spawns_lack_belongs_to_the_next() -> None:
    late = spawn(3.0)
    stamps = {k: v for k, v in late.own_unix_s.items() if k != "hello"}
    series = Series("s", (spawn(1.0), late.model_copy(update={"own_unix_s": stamps})))
    assert [step[0] for step in series.steps(0.5)] == ["submitted", "ready", "first_cell"]


def heights(series: Series) -> list[float]:
    """Where a curve's path ends each of its steps, as shares from the bottom to the top."""
    drawn = str(charts.arrivals([series], "ready", HALF))
    path = re.search(r'<path d="(M[^"]+)" class="curve', drawn)
    assert path
    ends = [float(y) for y in re.findall(r"V([\d.]+)", path[1])]
    begin = float(path[1].split("H")[0].split()[1])
    return [round((begin - y) / 290, 2) for y in ends]


def test_a_failed_spawn_never_arrives() -> None:
    four = [spawn(1.0), spawn(2.0), spawn(3.0)]
    assert heights(Series("s", tuple(four))) == [0.33, 0.67, 1.0]
    with_failure = Series("s", (*four, spawn(outcome="failed")))
    assert heights(with_failure) == [0.25, 0.5, 0.75]
    assert "M" in str(charts.arrivals([with_failure], "ready", HALF))
    # What the harness broke says nothing of the facility.
    assert heights(Series("s", (*four, spawn(outcome="bed_broke")))) == [0.33, 0.67, 1.0]


def test_series_are_told_apart_by_hub_and_variant() -> None:
    records = [
        spawn(backend="slurm", hub="stock"),
        spawn(hub="stock"),
        spawn(options={"class": "big", "cores": 1}),
        spawn(options={"class": "small", "cores": 1}),
    ]
    names = [series.name for series in series_of(records)]
    assert names == [
        "htcondor · htc · big", "htcondor · htc · small", "htcondor · stock", "slurm · stock",
    ]  # fmt: skip
    assert [series.name for series in series_of([spawn(), spawn(backend="local")])] == [
        "htcondor",
        "local",
    ]


def test_an_option_of_each_spawns_own_makes_no_series() -> None:
    records = [spawn(options={"name": f"run-{n}"}) for n in range(9)]
    assert [len(series.records) for series in series_of(records)] == [9]


def test_errors_are_counted_by_cause() -> None:
    held = [
        spawn(user=user, outcome="failed", reason=f"job {n}.0 of {user} is held: no space")
        for n, user in enumerate(("alice", "bob", "carol"))
    ]
    other = spawn(server="gpu", round=4, outcome="failed", reason="HTTP 429: later")
    broken = spawn(outcome="bed_broke", reason="HTTP 429: later")
    found = causes(series_of([other, *held, spawn(), broken]))
    assert [(c.count, c.outcome, c.example) for c in found] == [
        (3, "failed", "alice, round 0"),
        (1, "failed", "alice/gpu, round 4"),
        (1, "harness broke", "alice, round 0"),
    ]
    assert found[0].reason == "job 0.0 of alice is held: no space"
    assert found[0].series == ("htcondor",)


@pytest.mark.parametrize(
    ("run", "word", "sentence"),
    [
        (run_of(spawn(), spawn()), "Passed", "all 2 spawns ready"),
        (run_of(spawn(), spawn(outcome="failed")), "Failed", "1 of 2 spawns ready"),
        (
            run_of(spawn(), spawn(outcome="bed_broke")),
            "Broke",
            "1 of 2 spawns ready, 1 broken off by the harness",
        ),
        (run_of(spawn(), figures={"orphans": 2.0}), "Failed", "1 of 1 spawn ready, 2 orphans"),
        (
            run_of(figures={"notebooks_passed": 8.0, "notebooks_failed": 1.0}),
            "Failed",
            "1 of 9 notebooks failed",
        ),
        (run_of(spawn(), failures=["too slow"]), "Failed", "1 of 1 spawn ready, 1 check failed"),
        (run_of(figures={"up_s": 30.0}), "Measured", "1 figure, no spawns"),
        (run_of(), "Measured", "0 figures, no spawns"),
    ],
)
def test_verdicts(run: Results, word: str, sentence: str) -> None:
    found = verdict(run)
    assert (found.word, found.sentence) == (word, sentence)
    assert f"{word}:" in Seen(render(run)).text


def test_a_spawns_failure_is_not_told_twice() -> None:
    run = run_of(
        spawn(outcome="failed", reason="job held"),
        failures=["htcondor as alice, round 0: job held", "htcondor: 1 of 1 spawns failed; 0% may"],
    )
    assert verdict(run).failures == ("htcondor: 1 of 1 spawns failed; 0% may",)


def test_a_run_without_spawns_shows_its_figures_grouped() -> None:
    figures = {
        "hit_mb_s": 610.04, "up_s": 30.94, "hit_4_streams_mb_s": 305.0, "hit_vs_origin_ratio": 1.0,
    }  # fmt: skip
    found = numbers.groups(figures)
    assert [(g.name, [f.name for f in g.figures]) for g in found] == [
        ("", ["up_s"]),
        ("hit", ["hit_mb_s", "hit_4_streams_mb_s", "hit_vs_origin_ratio"]),
    ]
    assert [(f.text, f.unit) for f in found[1].figures] == [
        ("610", "MB/s"),
        ("305", "MB/s"),
        ("1.00", "×"),
    ]
    assert found[1].figures[1].share == pytest.approx(0.5, abs=0.01)
    page = Seen(render(run_of(command="bench data", figures=figures)))
    assert "hit_4_streams_mb_s" in page.text
    assert "Where the time goes" not in page.text


def test_a_bent_clock_breaks_nothing() -> None:
    """Stamps that are not numbers, are missing, or lie before the run or centuries after it."""
    click = BEGIN.timestamp()
    odd: list[dict[str, float]] = [
        {},
        {"ready": click},
        {"click": math.nan, "ready": click},
        {"click": click, "ready": math.inf},
        {"click": click + 9, "ready": click},
        {"click": 0.0, "ready": click},
        {"click": click, "ready": 1e300},
    ]
    for stamps in odd:
        record = spawn(own_unix_s=stamps)
        for records in ([record], [record, spawn(), spawn(outcome="failed")]):
            page = render(run_of(*records, figures={"x_s": math.nan, "orphans": math.inf}))
            assert "nan" not in re.findall(r'="([^"]*)"', page)
            assert page.endswith("</html>\n")


def test_many_spawns_share_lanes() -> None:
    """A person's spawns one after the other lie in one line; at the same time, in several."""
    alone = Series("s", tuple(spawn(1.0, at_s=n * 5) for n in range(12)))
    crowd = Series("s", tuple(spawn(1.0, at_s=0.1 * n) for n in range(12)))
    low, high = (
        int(re.findall(r'height="(\d+)"', str(timeline([s], BEGIN, WIDE)))[0])
        for s in (alone, crowd)
    )
    assert high - low == 11 * 14


def test_every_drawing_has_a_name_and_a_size_for_each_screen() -> None:
    page = render(Results.read(REAL))
    for width in (WIDE, HALF, NARROW):
        assert f'width="{width}"' in page
    pictures = re.findall(r"<svg [^>]*>", page)
    named = [p for p in pictures if 'role="img"' in p and 'aria-label="' in p]
    assert len(named) == 8  # four charts, each for a wide and for a narrow screen
    assert all('aria-hidden="true"' in p for p in pictures if p not in named)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(0, 10, 0, 100), [0, 2, 4, 6, 8, 10]),
        (Axis(0, 0.3, 0, 100), [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (Axis(0.8, 30, 0, 100, log=True), [1, 2, 5, 10, 20]),
        (Axis(0.01, 900, 0, 100, log=True), [0.01, 0.1, 1, 10, 100]),
    ],
)
def test_ticks_are_round(axis: Axis, expected: list[float]) -> None:
    assert axis.ticks(7) == pytest.approx(expected)


def test_axes_end_on_a_tick_and_keep_what_is_beyond() -> None:
    assert round_up(5.47, 7) == 6
    assert round_up(0.011, 7) == pytest.approx(0.012)
    assert Axis(0, 10, 0, 100).place(25) == 100
    assert Axis(1, 100, 0, 100, log=True).place(10) == pytest.approx(50)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.01234, "0.012"), (0.92, "0.92"), (9.996, "10.0"), (14.44, "14.4"), (123.4, "123"),
     (None, "–"), (math.nan, "–"), (-0.004, "-0.004")],
)  # fmt: skip
def test_seconds_have_as_many_digits_as_mean_something(value: float | None, shown: str) -> None:
    assert numbers.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.2217, "0.222"), (20.0, "20"), (1380.4, "1,380"), (1.5, "1.50"), (1e-9, "0.000000")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert numbers.number(value) == shown


def test_printable_marks_what_is_not_seen() -> None:
    assert printable("a\x00b\u200bc\ud800\nd é") == "a\ufffdb\ufffdc\ufffd\nd é"


def command(
    *argv: str,
    environ: dict[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """`testbed report` as somebody at a prompt has it."""
    return subprocess.run(
        [sys.executable, "-m", "testbed", "report", *argv],
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_names_the_page_and_the_figures(tmp_path: Path) -> None:
    file = run_of(spawn(), figures={"htcondor_ready_p50_s": 1.0}).write(tmp_path)
    done = command(str(file), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert answer["figures"] == {"htcondor_ready_p50_s": 1.0}
    assert Path(answer["report"]) == tmp_path / "report.html"
    assert Path(answer["report"]).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "text",
    [
        REAL.read_text()[:5000],
        '{"schema_version": 2, "spawns": []}',
        '{"schema_version": 1, "command": "smoke", "spawns": [{}]}',
        "",
    ],
    ids=["truncated", "other schema", "fields missing", "empty"],
)
def test_other_files_end_with_2_and_leave_no_page(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    done = command(str(tmp_path), "--json")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 2
    assert not (tmp_path / "report.html").exists()


def test_half_a_character_is_shown_as_a_mark(tmp_path: Path) -> None:
    text = REAL.read_text().replace('"alice"', r'"\ud800"', 1)
    (tmp_path / "results.json").write_text(text)
    assert command(str(tmp_path)).returncode == 0
    assert "<td>\ufffd</td>" in (tmp_path / "report.html").read_text()


def test_a_run_without_results_names_one_that_has_some(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "latest").symlink_to("scenarios")
    with pytest.raises(UsageError, match=r"latest has no results\.json") as caught:
        report.find(tmp_path / "latest")
    assert caught.value.cure == "testbed bench spawn"
    run_of().write(tmp_path / "bench")
    with pytest.raises(UsageError) as caught:
        report.find(tmp_path / "latest")
    assert caught.value.cure == f"testbed report {tmp_path / 'bench'}"
    assert command(str(tmp_path / "nowhere")).returncode == 2
