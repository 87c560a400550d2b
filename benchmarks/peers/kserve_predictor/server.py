"""The KServe SDK's custom predictor for AlexNet, based on KServe's own page:

https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor
Differences: the weights are from a file, and the answer names classes instead of giving bare values.
"""

import argparse
import base64
import io
import os

import torch
from PIL import Image
from torchvision import models, transforms

from kserve import Model, ModelServer, model_server

LABELS = models.AlexNet_Weights.IMAGENET1K_V1.meta["categories"]


class AlexNetModel(Model):
    def __init__(self, name):
        super().__init__(name)
        self.name = name
        self.load()

    def load(self):
        self.model = models.alexnet()
        self.model.load_state_dict(torch.load(os.environ["ALEXNET_PTH"]))
        self.model.eval()
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        raw_image = base64.b64decode(payload["instances"][0]["image"]["b64"])
        input_image = Image.open(io.BytesIO(raw_image))
        preprocess = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )
        input_tensor = preprocess(input_image).unsqueeze(0)
        output = torch.nn.functional.softmax(self.model(input_tensor), dim=1)
        values, top_5 = torch.topk(output, 5)
        classes = zip(top_5.flatten().tolist(), values.flatten().tolist())
        return {"predictions": [{"classes": [{"index": i, "label": LABELS[i], "probability": p} for i, p in classes]}]}


parser = argparse.ArgumentParser(parents=[model_server.parser])
args, _ = parser.parse_known_args()

if __name__ == "__main__":
    ModelServer().start([AlexNetModel(args.model_name)])
