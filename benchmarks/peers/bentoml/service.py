"""BentoML with adaptive batching, based on its own pages:

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html
https://docs.bentoml.com/en/latest/build-with-bentoml/services.html
A batchable API takes a list: KServe v1's `instances` is that list. The answer is the bare list of predictions, without
{"predictions": …} around it, since BentoML must split it among the requests.
"""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import bentoml
import torch
import torchvision
from PIL import Image


@bentoml.service(traffic={"timeout": 60})
class ImageClassifier:
    def __init__(self) -> None:
        weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
        self.labels = weights.meta["categories"]
        self.preprocess = weights.transforms()
        self.model = torchvision.models.alexnet()
        self.model.load_state_dict(torch.load(os.environ["ALEXNET_PTH"]))
        self.model.eval()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10000, route="/v1/models/alexnet:predict")
    def predict(self, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
        raw = [base64.b64decode(instance["image"]["b64"]) for instance in instances]
        images = [Image.open(io.BytesIO(image)).convert("RGB") for image in raw]
        with torch.inference_mode():
            batch = torch.stack([self.preprocess(image) for image in images])
            values, indices = torch.topk(self.model(batch).softmax(dim=1), 5)
        return [
            {"classes": [{"index": i, "label": self.labels[i], "probability": p} for i, p in zip(row, probabilities)]}
            for row, probabilities in zip(indices.tolist(), values.tolist())
        ]
