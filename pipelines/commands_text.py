"""`concord extract transcribe`: from speech to words with times."""

from __future__ import annotations

from pathlib import Path

import click

from .options import BUDGET, DEVICE


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder in Aff-Wild2's layout, or table of tracks (CSV).",
)
@click.option(
    "--recogniser",
    default="faster-whisper",
    show_default=True,
    help="What hears the words: faster-whisper, or module:Class of yours.",
)
@click.option("--model", default="", help="The recogniser's model: a folder, or a name it knows.")
@click.option("--language", default="", help="What is spoken, such as en; else it is found out.")
@BUDGET
@DEVICE
def transcribe(
    data: Path, recogniser: str, model: str, language: str, budget: float, device: str
) -> None:
    """Write transcripts/SOURCE.json into a data set for every source that has no transcript.

    Words, times, confidences, language, recogniser and model stand in each file. Sources without
    sound get a transcript without words. Run it again to go on after a stop; delete a file to have
    it made anew. A table of tracks has to name the files then.

    Exit code 3 where more sources could not be read than the budget allows.

    concord extract transcribe --data Aff-Wild2 --model models/faster-whisper-small --language en
    """
    from ..cache import BudgetError
    from ..extract.recogniser import build_recogniser
    from ..extract.transcribe import transcribe_all, untold
    from .config import parse_config
    from .datasets import data_settings, dataset_of
    from .device import held_device
    from .progress import note, progress

    dataset = dataset_of(parse_config({"data": data_settings(data)}))
    todo = untold(dataset)
    if not todo:
        click.echo(f"{data}: all {len(dataset.sources)} sources have a transcript")
        return
    with held_device(device) as held, progress(f"transcribe {data}") as told:
        hears = build_recogniser(recogniser, model, language, held)
        failures = transcribe_all(dataset, hears, told, note)
    for why in failures.values():
        click.echo(f"not transcribed: {why}", err=True)
    click.echo(f"{data}: {len(todo) - len(failures)} of {len(todo)} sources transcribed")
    if len(failures) > budget * len(dataset.sources):
        raise BudgetError(
            f"{len(failures)} of {len(dataset.sources)} sources could not be transcribed, "
            f"--budget {budget:g} allows fewer"
        )
