"""docs/classifiers.md, from the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.classifiers.results import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "classifiers.md"
MANY, FEW = "1000", "5"
SERVED = ("served_float32", "served_bfloat16")
TITLES = {
    "alexnet": "AlexNet",
    "convnext": "ConvNeXt",
    "densenet": "DenseNet",
    "efficientnet": "EfficientNet",
    "googlenet": "GoogLeNet",
    "inception": "Inception",
    "maxvit": "MaxViT",
    "mnasnet": "MnasNet",
    "mobilenetv2": "MobileNetV2",
    "mobilenetv3": "MobileNetV3",
    "regnet": "RegNet",
    "resnet": "ResNet, ResNeXt, Wide ResNet",
    "shufflenetv2": "ShuffleNetV2",
    "squeezenet": "SqueezeNet",
    "swin_transformer": "Swin",
    "vgg": "VGG",
    "vision_transformer": "ViT",
    "timm": "timm",
    "own": "A user's own module",
}
OF_FILES = ("timm", "own")

HOW = """\
- **Weights** are random, so that none must be downloaded, and calibrated: batch norms have the statistics of
  photographs, and logits a standard deviation of 3. Such networks magnify rounding more than trained ones do.
- **Moved** is what packaging proves, with photographs: no probability differs by more from the module's own. If
  bfloat16 moves them too much, the archive is marked and served only in float32; with other weights the same network
  may pass.
- **Start** is the processor time until a worker is ready, including importing torch and checking the archive;
  **memory** is its peak resident memory, with batches of up to eight.
- **Milliseconds per image** are processor time for a JPEG of a quarter of a megapixel, including decoding: alone / in a
  batch of eight. **Images/s** are for one core, in batches of eight, in the faster precision. Wall-clock time would
  include the machine's other work; these figures include a little of it, and differed by up to a fifth when a network
  was measured twice. Some processors add up differently for one to three images; a lone image is then processed with
  copies of itself, which takes longer, so that its answer has the same bits as in a larger batch.
- **Same bits**: whether an answer is the same, bit for bit, alone and with one to seven others. If not, its
  probabilities move by about 1e-6: the kernels of the network's convolutions change with the batch size.

Two figures separated by a slash are for float32 and bfloat16."""

COLUMNS: dict[str, Callable[[Row], str]] = {
    "pixels": lambda row: f"{row['crop']}²",
    "million parameters": lambda row: f"{row['parameters'] / 1e6:.1f}",
    "GFLOP": lambda row: f"{row['flop'] / 1e9:.2g}" if row["flop"] < 1e10 else f"{row['flop'] / 1e9:.0f}",
    "images/s": lambda row: f"{images_per_s(row):.3g}",
    "ms per image, float32": lambda row: _times(row, "served_float32"),
    "ms per image, bfloat16": lambda row: _times(row, "served_bfloat16"),
    "memory, MB": lambda row: _both(row, "memory_mb", ".0f"),
    "start, s": lambda row: _both(row, "start_s", ".1f"),
    "archive, MB": lambda row: f"{row[MANY]['archive_bytes'] / 1e6:.0f}",
    "packaging, s": lambda row: f"{row[MANY]['packaging_s']:.0f}",
    "moved, float32": lambda row: _moved(row, "float32"),
    "moved, bfloat16": lambda row: _moved(row, "bfloat16"),
    "same bits": lambda row: _same_bits(row),
    "operators": lambda row: str(row[MANY]["nodes"]),
}


def text(rows: dict[str, Row], known: Sequence[str]) -> str:
    """The page for the results. known: torchvision's classifiers, by name."""
    packed = {name: row for name, row in rows.items() if "failed" not in row}
    failed = {name: row for name, row in rows.items() if "failed" in row}
    torchvisions = {name: row for name, row in packed.items() if row["family"] not in OF_FILES}
    others = {name: row for name, row in packed.items() if row["family"] in OF_FILES}
    parts = [
        "# Classifiers that can be packed",
        _introduction(rows, torchvisions, len(known)),
        HOW,
        "## torchvision's",
        _table(torchvisions),
        _left_out([name for name in known if name not in rows]),
        "## From a file of your own",
        "For example `architecture: of_timm.py:resnet50d` or `architecture: own.py:build`: start from these files in "
        "[benchmarks/classifiers](../benchmarks/classifiers).",
        _table(others) if others else "None has been measured yet.",
    ]
    if failed:
        items = (f"- `{name}`: {row['failed']}" for name, row in failed.items())
        parts += ["## What could not be packed, and why", "\n".join(items)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(rows: dict[str, Row], torchvisions: dict[str, Row], known: int) -> str:
    about = sorted({f"{row['processor']}, torch {row['torch']}" for row in rows.values()})
    families = len({row["family"] for row in torchvisions.values()})
    return (
        f"**{len(torchvisions)} of torchvision's {known} classification architectures**, of {families} "
        "families, were packed with 1000 classes and with 5, unpacked as by TorchServe, started, and run on "
        "photographs. A model file names one: `architecture: resnet50`.\n\n"
        "`make classifiers` measures them (`ONLY=resnet18,vit_b_16` only two of them) and writes this page from "
        f"`benchmarks/results/classifiers.json`. Measured on: {'; '.join(about)}; one thread, 1000 classes."
    )


def _left_out(names: list[str]) -> str:
    if not names:
        return ""
    return f"{len(names)} have not been measured yet; `make classifiers` continues with them: {', '.join(names)}."


def _table(rows: dict[str, Row]) -> str:
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'--:|' * len(COLUMNS)}"]
    for family, title in TITLES.items():
        of_it = [(name, row) for name, row in rows.items() if row["family"] == family]
        of_it.sort(key=lambda each: (each[1]["flop"], each[0]))
        if of_it:
            lines.append(f"| **{title}** |{' |' * len(COLUMNS)}")
        lines += [f"| {name} | {' | '.join(said(row) for said in COLUMNS.values())} |" for name, row in of_it]
    return "\n".join(lines)


def _moved(row: Row, precision: str) -> str:
    """Also shows with which number of classes bfloat16 did not pass."""
    moved = f"{row[MANY][precision]['moved']:.1g}"
    refused = [classes for classes in (MANY, FEW) if not row[classes][precision]["passed"]]
    if not refused:
        return moved
    return f"{moved}: float32 only" + (f" with {refused[0]} classes" if len(refused) == 1 else "")


def _both(row: Row, name: str, form: str) -> str:
    return " / ".join(f"{row[MANY][served][name]:{form}}" for served in SERVED if served in row[MANY])


def _same_bits(row: Row) -> str:
    found = ["yes" if row[MANY][served]["same_bits"] else "no" for served in SERVED if served in row[MANY]]
    return " / ".join(dict.fromkeys(found))


def _times(row: Row, served: str) -> str:
    found = row[MANY].get(served)
    return f"{_ms(found['alone_ms'])} / {_ms(found['together_ms'])}" if found else "–"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def images_per_s(row: Row) -> float:
    """For one core, eight at a time, in the faster precision."""
    return 1000 / min(float(row[MANY][served]["together_ms"]) for served in SERVED if served in row[MANY])


def line(name: str, row: Row) -> str:
    """For the terminal."""
    if "failed" in row:
        return f"{name}: {row['failed']}"
    moved = f"{_moved(row, 'float32')} in float32, {_moved(row, 'bfloat16')} in bfloat16"
    return f"{name}: moved {moved}; {images_per_s(row):.3g} images/s per core"
