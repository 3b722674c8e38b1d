"""Services that few need, beside the facility for as long as something asks for them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from testbed import teardown
from testbed.bed import Bed
from testbed.errors import ExplainedError
from testbed.progress import say as say_on_stderr


@contextlib.contextmanager
def services(
    bed: Bed,
    profile: str,
    names: Sequence[str],
    *,
    logs: Path | None = None,
    before_removal: Callable[[Bed], None] | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> Iterator[Bed]:
    """Services of a profile, up and well; removed at the end, their named volumes kept.

    Args:
        logs: The folder that gets what they wrote, also when one does not come up; default the
            run's report.
        before_removal: What is to be done at the end, also after a start that failed half-way.

    Yields:
        The testbed, with these services in it.

    Raises:
        TestbedError: One does not come up.
    """
    beside = Bed(bed.settings, profiles=(profile,))
    with contextlib.ExitStack() as at_the_end:  # the last first
        at_the_end.callback(teardown.remove, beside, names)
        at_the_end.callback(_keep_logs, beside, names, logs or beside.report_dir)
        if before_removal is not None:
            at_the_end.callback(before_removal, beside)
        at_the_end.callback(say, f"removing {', '.join(names)}")
        say(f"starting {', '.join(names)}")
        beside.up(only=names)
        yield beside


def _keep_logs(bed: Bed, services: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for service in services:
        with contextlib.suppress(ExplainedError):
            (folder / f"{service}.log").write_text(bed.logs(service), encoding="utf-8")
