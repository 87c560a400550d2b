"""LitServe's image classification with batching, based on its own guide and its page on batching:

https://lightning.ai/docs/litserve/speed-up-serving-by-200x
https://lightning.ai/docs/litserve/features/batching
Differences: AlexNet with weights from a file, KServe v1's body, and an answer with five classes.
"""

import argparse
import base64
import io
import os

import litserve as ls
import PIL.Image
import torch
import torchvision


class ImageClassifierAPI(ls.LitAPI):
    def setup(self, device):
        weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
        self.labels = weights.meta["categories"]
        self.image_processing = weights.transforms()
        self.model = torchvision.models.alexnet()
        self.model.load_state_dict(torch.load(os.environ["ALEXNET_PTH"]))
        self.model.eval().to(device)

    def decode_request(self, request):
        image = base64.b64decode(request["instances"][0]["image"]["b64"])
        pil_image = PIL.Image.open(io.BytesIO(image)).convert("RGB")
        return self.image_processing(pil_image)

    def batch(self, inputs):
        return torch.stack(inputs).to(self.device)

    def predict(self, x):
        with torch.inference_mode():
            return torch.topk(self.model(x).softmax(dim=1), 5)

    def unbatch(self, output):
        return list(zip(output.indices.tolist(), output.values.tolist()))

    def encode_response(self, output):
        classes = [{"index": i, "label": self.labels[i], "probability": p} for i, p in zip(*output)]
        return {"predictions": [{"classes": classes}]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    api = ImageClassifierAPI(max_batch_size=args.batch, batch_timeout=0.01, api_path="/v1/models/alexnet:predict")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=args.workers)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False)
