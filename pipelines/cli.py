"""The command `concord`: groups are imported when they are used, so that help comes at once."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

GROUPS = {
    "data": "What a data set holds, and what the configuration says.",
    "extract": "Stage one: compute feature rows into the store.",
    "cache": "The feature store: what is in it, is it sound, keep it small.",
    "fuse": "Stage two: train fusion heads on stored rows.",
    "report": "Tables and pages of results.",
    "demo": "A generated data set to try everything on.",
}


class Lazy(click.Group):
    """A group whose subgroups live in `commands_<name>.py`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Name the subgroups, in the order of a project's work."""
        return list(GROUPS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        """Import a subgroup."""
        if cmd_name not in GROUPS:
            return None
        module = importlib.import_module(f".commands_{cmd_name}", __package__)
        return module.group

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        formatter: click.HelpFormatter,
    ) -> None:
        """List the subgroups without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(GROUPS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="concord")
def cli() -> None:
    """Audio-visual emotion recognition in two stages: cache features once, then fuse in seconds.

    Run everything on the demo with `snakemake --cores 2`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that a user can meet ends with its message and exit code."""
    from ..cache.errors import ConcordError

    try:
        cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _tell("stopped; everything finished so far is kept, run the same command to go on")
        sys.exit(130)
    except ConcordError as error:
        _tell(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)


def _tell(text: Any) -> None:
    click.echo(f"concord: {text}", err=True)
