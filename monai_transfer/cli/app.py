"""The ``monai-transfer`` command: one Typer application that knows its commands by name only.

Each command lives in a module of its own and imports the library inside its body, so ``--help`` answers at once.
"""

import logging
import signal
import sys
import warnings
from types import FrameType

import typer

from monai_transfer.cli import console
from monai_transfer.cli.adapt import adapt
from monai_transfer.cli.benchmark import benchmark
from monai_transfer.cli.bundles import bundles
from monai_transfer.cli.check import check
from monai_transfer.cli.demo import demo
from monai_transfer.cli.evaluate import evaluate
from monai_transfer.cli.finetune import finetune
from monai_transfer.cli.info import info
from monai_transfer.cli.phantom import phantom
from monai_transfer.cli.segment import segment
from monai_transfer.cli.train import train
from monai_transfer.cli.translate import translate
from monai_transfer.cli.weights import weights
from monai_transfer.errors import Interrupted, UserError

app = typer.Typer(
    name="monai-transfer",
    help="Labels in one modality, segmentation in another: transfer learning and domain adaptation for MONAI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _root() -> None:
    """Labels in one modality, segmentation in another: transfer learning and domain adaptation for MONAI."""


app.command("adapt")(adapt)
app.add_typer(benchmark, name="benchmark")
app.add_typer(bundles, name="bundles")
app.command("check")(check)
app.command("evaluate")(evaluate)
app.command("demo")(demo)
app.command("finetune")(finetune)
app.command("info")(info)
app.command("phantom")(phantom)
app.command("segment")(segment)
app.command("train")(train)
app.command("translate")(translate)
app.add_typer(weights, name="weights")


def main() -> None:
    """Run the command line; exit 0 when all is done, 1 when some input failed, 2 when nothing could be done.

    A signal that ends the command gives 128 more than its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    _set_up_logging(debug=debug)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app(args=arguments, prog_name="monai-transfer")
    except UserError as error:
        if debug:
            raise
        console.error(str(error))
        sys.exit(2)
    except Interrupted as stop:
        console.error(str(stop))
        sys.exit(128 + stop.signal)
    except Exception as error:
        if debug:
            raise
        console.error(f"{type(error).__name__}: {error} (run again with --debug for the traceback).")
        sys.exit(2)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("Interrupted; what was finished is kept.", number)


def _set_up_logging(*, debug: bool) -> None:
    """Warnings alone, to standard error: MONAI and ignite tell of every epoch, the commands have progress bars."""
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.WARNING, format="%(message)s")
    if not debug:
        logging.disable(logging.INFO)
        # a filter, because the module sets its logger's level when it is imported later
        logging.getLogger("monai.bundle.workflows").addFilter(lambda record: record.levelno >= logging.ERROR)
        warnings.filterwarnings("ignore", message="parsing config_file", module="monai")
