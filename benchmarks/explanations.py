"""Whether explanations point at what makes the class: how much of its probability remains there, and elsewhere.

    python -m benchmarks.explanations ARCHIVE PHOTOGRAPHS [--most 100] [--sheet FILE]

ARCHIVE is a .mar with trained weights for ImageNet's classes. PHOTOGRAPHS is a folder of files whose names begin with
the WordNet id of what they show (n02123045_tabby.JPEG). Only photographs with the right first class count.

A map's squares are ranked. The network sees only the best quarter, and then the picture without it; hidden squares have
the mean colour of the network's preprocessing. For comparison, it sees as many random squares, a square block of them
at a random place, and the one in the middle. The results go to results/explanations.json and README.md's table.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks import tables
from benchmarks.measurement import machine
from benchmarks.places import HANDLER, RESULTS

SHARE = 4  # one in this many squares is shown
DRAWS = 4  # random choices for each photograph
OTHERS = (7, 4)  # windows in a row, for occlusion: used for networks without a last map
TARGETS = {"best quarter against a random one": 2.0, "left without the best quarter": 0.65}
SHEET_COLUMNS, SHEET_ROWS = 8, 6
FILE = RESULTS / "explanations.json"

Flags = np.ndarray  # bool, (rows, rows): which squares are shown


def best_quarter(heat: np.ndarray) -> Flags:
    """The best quarter of a map's squares, (rows, rows)."""
    flags = np.zeros(heat.size, dtype=bool)
    flags[np.argsort(-heat, axis=None, kind="stable")[: round(heat.size / SHARE)]] = True
    return flags.reshape(heat.shape)


def block(rows: int, top: int, left: int) -> Flags:
    """A block of half the rows and half the columns."""
    flags = np.zeros((rows, rows), dtype=bool)
    flags[top : top + rows // 2, left : left + rows // 2] = True
    return flags


def shown(image: np.ndarray, flags: Flags, colour: np.ndarray) -> np.ndarray:
    """The image, uint8 (side, side, 3), with that colour in the hidden squares."""
    rows, side = len(flags), len(image)
    at = np.arange(side) * rows // side
    return np.where(flags[np.ix_(at, at)][:, :, None], image, colour.round().astype(np.uint8))


def variants(heat: np.ndarray, random: np.random.Generator) -> dict[str, list[Flags]]:
    """Name → which squares of a picture are shown."""
    rows, best = len(heat), best_quarter(heat)
    drawn = [random.permutation(best.ravel()).reshape(best.shape) for _ in range(DRAWS)]
    places = random.integers(0, rows - rows // 2 + 1, (DRAWS, 2))
    return {
        "best": [best],
        "random": drawn,
        "random block": [block(rows, top, left) for top, left in places],
        "middle": [block(rows, (rows - rows // 2) // 2, (rows - rows // 2) // 2)],
        "without best": [~best],
        "without random": [~flags for flags in drawn],
    }


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """The remaining shares of the class's probability, averaged over the photographs."""
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}


class Asked:
    """An archive, used as by a worker. contents: unpacked."""

    def __init__(self, contents: Path) -> None:
        sys.path.insert(0, str(HANDLER))
        import torch
        import yaml

        from vision.model.classifier import Classifier
        from vision.model.explanation import Explainer
        from vision.model.facts import read_facts
        from vision.model.ranking import read_classes
        from vision.worker.settings import read_settings

        torch.set_num_threads(1)
        settings = read_settings(yaml.safe_load((HANDLER / "model-config.yaml").read_text()))
        self.facts = read_facts(contents / "model.yaml")
        self.classes = read_classes(contents / self.facts.classes)
        self.classifier = Classifier(contents, self.facts, settings, None)
        self.explainer = Explainer(self.classifier, self.facts.preprocessing.mean)
        self.colour = np.array(self.facts.preprocessing.mean) * 255

    def pixels(self, file: Path) -> np.ndarray:
        from vision.image.decoder import decode, open_image

        return decode(open_image(file.read_bytes(), file.name, 10**9), self.facts.preprocessing)

    def photographs(self, folder: Path, most: int) -> Iterator[tuple[np.ndarray, int]]:
        """Pixels and class of correctly classified photographs, spread over the folder."""
        indices = {wnid: index for index, (wnid, _) in enumerate(self.classes)}
        files = sorted(file for file in folder.iterdir() if file.name.partition("_")[0] in indices)
        order = np.random.default_rng(0).permutation(len(files))
        found = 0
        for file in (files[number] for number in order):
            image, index = self.pixels(file), indices[file.name.partition("_")[0]]
            if int(self.classifier.probabilities([image])[0].argmax()) == index and found < most:
                found += 1
                yield image, index

    def measured(self, photographs: list[tuple[np.ndarray, int]]) -> dict[str, Any]:
        random, rows, seconds = np.random.default_rng(0), [], []
        for image, index in photographs:
            began = time.process_time()
            heat = self.explainer.heat(image, index)
            seconds.append(time.process_time() - began)
            chosen = variants(heat, random)
            pictures = [image, *(shown(image, flags, self.colour) for each in chosen.values() for flags in each)]
            whole, *left = self.classifier.probabilities(pictures)[:, index].tolist()
            rest = iter(left)
            rows.append({name: float(np.mean([next(rest) for _ in each])) / whole for name, each in chosen.items()})
        return {
            "explained_by": self.explainer.description.split()[0].partition("=")[2],
            "squares": len(heat),
            "photographs": len(rows),
            "cpu_ms": round(float(np.median(seconds)) * 1000, 1),
            **summary(rows),
        }

    def by_occlusion(self, windows: int) -> None:
        """Explains as for a network without a last map."""
        self.explainer._by_gradient, self.explainer._windows = False, windows


def sheet(asked: Asked, photographs: list[tuple[np.ndarray, int]]) -> Image.Image:
    """Pictures next to their overlays, to look at."""
    from vision.image.overlay import overlay

    shown = []
    for image, index in photographs[: SHEET_COLUMNS // 2 * SHEET_ROWS]:
        jpeg = overlay(image, asked.explainer.heat(image, index))
        shown += [Image.fromarray(image), Image.open(io.BytesIO(jpeg))]
    side = 160
    made = Image.new("RGB", (SHEET_COLUMNS * side, -(-len(shown) // SHEET_COLUMNS) * side))
    for number, picture in enumerate(shown):
        row, column = divmod(number, SHEET_COLUMNS)
        made.paste(ImageOps.fit(picture, (side, side)), (column * side, row * side))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--most", type=int, default=100, help="how many photographs to use")
    parser.add_argument("--sheet", type=Path, help="a file for some of the overlays, such as sheet.png")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        with zipfile.ZipFile(said.archive) as packed:
            packed.extractall(scratch)
        asked = Asked(Path(scratch))
        photographs = list(asked.photographs(said.photographs, said.most))
        if not photographs:
            sys.exit(f"{said.photographs} has no correctly classified photograph whose name begins with a WordNet id")
        if said.sheet:
            sheet(asked, photographs).save(said.sheet)
        ways = [asked.measured(photographs)]
        for windows in OTHERS:
            asked.by_occlusion(windows)
            ways.append(asked.measured(photographs))
        found = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine([0]),
            "model": asked.facts.name,
            "precision": asked.classifier.precision,
            "weights": asked.classifier.description.partition("weights=")[2],
            "ways": ways,
        }
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    tables.write_explanations(found)
    print(tables.explanations(found))


if __name__ == "__main__":
    main()
