"""LitServe with this project's decoder and classifier: the same work in another server, including batching."""

import argparse
import base64

import equal_work
import litserve as ls


class ImageClassifierAPI(ls.LitAPI):
    def setup(self, device):  # noqa: ARG002
        self.model = equal_work.load(threads=1, batch=self.max_batch_size)

    def decode_request(self, request):
        return self.model.decode(base64.b64decode(request["instances"][0]["image"]["b64"], validate=True))

    def batch(self, inputs):
        return inputs

    def predict(self, pixels):
        return self.model.classify(pixels)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"predictions": [output]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--batch-timeout", type=float)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    api = ImageClassifierAPI(
        max_batch_size=args.batch, batch_timeout=args.batch_timeout, api_path="/v1/models/alexnet:predict"
    )
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=args.workers)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False)
