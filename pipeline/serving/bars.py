"""An answer in the terminal: labels, bars and probabilities."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.serving.protocol import Class
from pipeline.shared.text import one_line, printable

BAR_WIDTH = 32  # characters
LEAST_BAR_WIDTH = 8  # a shorter bar shows nothing
BETWEEN = 2
PROBABILITY_WIDTH = 7


def show(title: str, classes: list[Class], console: Console) -> None:
    """Prints the classes of one image as a table. In a narrow terminal, bars are shorter or missing, labels wrap, and
    probabilities stay whole."""
    labels = [Text(printable(one_line(entry["label"], None))) for entry in classes]
    longest = max((cell_len(label.plain) for label in labels), default=0)
    bar_width = min(BAR_WIDTH, console.width - longest - PROBABILITY_WIDTH - 2 * BETWEEN)
    has_bars = bar_width >= LEAST_BAR_WIDTH
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, BETWEEN, 0, 0))
    table.add_column(overflow="fold")
    if has_bars:
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=PROBABILITY_WIDTH)
    for label, entry in zip(labels, classes, strict=True):
        bar = [ProgressBar(total=1, completed=entry["probability"], width=bar_width)] if has_bars else []
        table.add_row(label, *bar, f"{entry['probability']:7.2%}")
    console.print(title, style="bold")
    console.print(table, soft_wrap=False)
