"""AlexNet in a Flask app, one image per request, based on PyTorch's own tutorial and recipe:

https://docs.pytorch.org/tutorials/intermediate/flask_rest_api_tutorial.html
https://docs.pytorch.org/tutorials/recipes/deployment_with_flask.html
Differences: AlexNet with weights from a file, the image as base64 in KServe v1's body rather than in a form, five
classes in the answer, and gunicorn with one worker per processor, as on Flask's own page on deploying
(https://flask.palletsprojects.com/en/stable/deploying/gunicorn/), instead of the development server, which is slower.
"""

import base64
import io
import os

import torch
import torchvision.transforms as transforms
from flask import Flask, jsonify, request
from PIL import Image
from torchvision import models

app = Flask(__name__)
labels = models.AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
model = models.alexnet()
model.load_state_dict(torch.load(os.environ["ALEXNET_PTH"]))
model.eval()


def transform_image(image_bytes):
    my_transforms = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    image = Image.open(io.BytesIO(image_bytes))
    return my_transforms(image).unsqueeze(0)


@app.route("/v1/models/alexnet:predict", methods=["POST"])
def predict():
    image_bytes = base64.b64decode(request.get_json()["instances"][0]["image"]["b64"])
    with torch.no_grad():
        outputs = model(transform_image(image_bytes)).softmax(dim=1)
    values, indices = outputs.topk(5)
    classes = zip(indices.flatten().tolist(), values.flatten().tolist())
    return jsonify(predictions=[{"classes": [{"index": i, "label": labels[i], "probability": p} for i, p in classes]}])
