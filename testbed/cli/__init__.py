"""The command line. Exit codes: 0 pass, 1 judged and failed, 2 usage, 3 the testbed broke."""

import sys

import typer

from testbed.cli import (
    autoscale,
    front,
    gate,
    hubs,
    judge,
    lifecycle,
    load,
    look,
    output,
    people,
    predict,
    report,
    scale,
    scaleout,
    sharing,
    usage,
)
from testbed.errors import ExplainedError

app = typer.Typer(
    help="An analysis facility in a box: boot it, look at it, hurt it, judge it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(
    help="Benchmarks; each prints its figures.", no_args_is_help=True, rich_markup_mode=None
)

app.command()(lifecycle.up)
app.command()(judge.smoke)
app.command()(look.status)
app.command()(look.doctor)
app.command()(people.users)
app.command()(people.login)
app.command()(look.logs)
app.command(
    # What follows the service belongs to the command that runs there.
    context_settings={"allow_interspersed_args": False}
)(look.exec)
app.command()(usage.usage)
app.command()(hubs.hubs)
app.command()(front.drain)
app.command()(front.undrain)
app.command()(front.announce)
app.command()(lifecycle.restart)
app.command()(lifecycle.fault)
app.command()(autoscale.autoscale)
app.command()(gate.gate)
app.command()(report.report)
app.command()(lifecycle.down)
bench.command()(judge.boot)
bench.command()(judge.data)
bench.command()(judge.form)
bench.command()(load.load)
bench.command()(judge.login)
bench.command()(predict.predict)
bench.command()(scale.scale)
bench.command()(scaleout.scaleout)
bench.command()(sharing.share)
bench.command()(judge.spawn)
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command line and end the process with the code that the outcome has."""
    try:
        app(prog_name="testbed")
    except ExplainedError as error:
        output.failed(error, sys.argv[1:])
        raise SystemExit(error.exit_code) from None
    except SystemExit as end:
        if end.code == 2:
            output.misused(sys.argv[1:])
        raise
