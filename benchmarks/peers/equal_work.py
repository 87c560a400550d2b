"""This project's decoder and classifier for another server, which has handler/ on its PYTHONPATH."""

import os
from pathlib import Path

import torch
import yaml

from vision.image.decoder import decode, open_image
from vision.model.classifier import Classifier
from vision.model.facts import read_facts
from vision.model.ranking import read_classes, top_k
from vision.protocol.answer import Answer
from vision.protocol.v1 import predictions
from vision.worker.settings import read_settings

TOP_K = 5


class Model:
    def __init__(self, threads, batch):
        torch.set_num_threads(threads)
        with open(os.environ["MODEL_CONFIG"], encoding="utf-8") as file:
            settings = read_settings(yaml.safe_load(file))
        self._max_pixels = settings.limits.max_pixels
        contents = Path(os.environ["MODEL_CONTENTS"])
        facts = read_facts(contents / "model.yaml")
        self._preprocessing = facts.preprocessing
        self._classes = read_classes(contents / facts.classes)
        self._classifier = Classifier(contents, facts, settings, None, batch)

    def decode(self, image):
        """JPEG bytes → RGB pixels (224, 224, 3)."""
        return decode(open_image(image, "image", self._max_pixels), self._preprocessing)

    def classify(self, pixels):
        """A list of pixels → a list of predictions, in this project's form."""
        found = [top_k(row, TOP_K, self._classes) for row in self._classifier.probabilities(pixels)]
        return predictions(Answer(found))


def load(threads, batch):
    return Model(threads, batch)
