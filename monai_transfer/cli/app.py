"""The ``monai-transfer`` command: one Typer application that knows its commands by name only.

Each command lives in a module of its own and imports the library inside its body, so ``--help`` answers at once.
"""

import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

import monai_transfer
from monai_transfer.chatter import silence_chatter
from monai_transfer.cli import console
from monai_transfer.cli.adapt import adapt_command
from monai_transfer.cli.benchmark import benchmark
from monai_transfer.cli.bundles import bundles
from monai_transfer.cli.check import check
from monai_transfer.cli.demo import demo
from monai_transfer.cli.diagnose import diagnose_command
from monai_transfer.cli.evaluate import evaluate_command
from monai_transfer.cli.explain import explain_command
from monai_transfer.cli.export import export_command
from monai_transfer.cli.finetune import finetune_command
from monai_transfer.cli.info import info
from monai_transfer.cli.phantom import phantom
from monai_transfer.cli.pretrain import pretrain_command
from monai_transfer.cli.processes import run_once
from monai_transfer.cli.profile import profile_command
from monai_transfer.cli.segment import segment_command
from monai_transfer.cli.threads import settle_threads
from monai_transfer.cli.train import train_command
from monai_transfer.cli.translate import translate
from monai_transfer.cli.weights import weights
from monai_transfer.errors import Interrupted, UserError, interruption_behind
from monai_transfer.progress import want_lines

app = typer.Typer(
    name="monai-transfer",
    help="Labels in one modality, segmentation in another: transfer learning and domain adaptation for MONAI.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.tell(f"monai-transfer {monai_transfer.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error and all messages; may stand anywhere.")
    ] = False,
    progress_lines: Annotated[
        bool, typer.Option("--progress-lines", help="Tell of progress in lines of JSON; may stand anywhere.")
    ] = False,
) -> None:
    """Labels in one modality, segmentation in another: transfer learning and domain adaptation for MONAI."""


app.command("adapt")(adapt_command)
app.add_typer(benchmark, name="benchmark")
app.add_typer(bundles, name="bundles")
app.command("check")(check)
app.command("diagnose")(diagnose_command)
app.command("explain")(explain_command)
app.command("evaluate")(evaluate_command)
app.command("demo")(demo)
app.command("export")(export_command)
app.command("finetune")(finetune_command)
app.command("info")(info)
app.command("phantom")(phantom)
app.command("pretrain")(pretrain_command)
app.command("profile")(profile_command)
app.command("segment")(segment_command)
app.command("train")(train_command)
app.command("translate")(translate)
app.add_typer(weights, name="weights")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0 when all is done, 1 when some input failed, 2 when nothing could be done.

    A signal that ends the command gives 128 more than its number: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        arguments: what stands behind ``monai-transfer``; those of the process by default.

    Raises:
        SystemExit: always.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    _set_up_logging(debug=debug)
    if "--progress-lines" in given:
        want_lines()
    settle_threads(given)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        # not standalone: Typer would draw a box of several lines around a wrong option
        words = [word for word in given if word not in ("--debug", "--progress-lines")]
        sys.exit(run_once(lambda: app(args=words, prog_name="monai-transfer", standalone_mode=False), words))
    except TyperException as error:
        if message := error.format_message():  # without a command the help was shown, and there is no message
            console.error(message)
        sys.exit(2)
    except (Interrupted, Exception) as error:
        _end(error, debug=debug)


def _end(error: BaseException, *, debug: bool) -> NoReturn:
    """Say in one sentence why the command ends early."""
    if (stop := interruption_behind(error)) is not None:
        console.error(str(stop))
        sys.exit(128 + stop.signal)
    if debug:
        raise error
    if isinstance(error, UserError):
        console.error(str(error))
    else:
        console.error(f"{type(error).__name__}: {error} (run again with --debug for the traceback).")
    sys.exit(2)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(
        "Interrupted; what was finished is kept: the same command goes on with --resume, where it has that option.",
        number,
    )


def _set_up_logging(*, debug: bool) -> None:
    """Warnings alone, to standard error: MONAI and ignite tell of every epoch, the commands have progress bars."""
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.WARNING, format="%(message)s")
    if not debug:
        logging.disable(logging.INFO)
        silence_chatter()
