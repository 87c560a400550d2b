"""The KServe SDK's server, with this project's decoder and classifier: the same work, one image per call.

The SDK has no batching. --workers starts processes.
"""

import argparse
import base64

import equal_work

from kserve import Model, ModelServer, model_server


class AlexNetModel(Model):
    def __init__(self, name):
        super().__init__(name)
        self.load()

    def load(self):
        self.model = equal_work.load(threads=1, batch=1)
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        image = base64.b64decode(payload["instances"][0]["image"]["b64"], validate=True)
        return {"predictions": self.model.classify([self.model.decode(image)])}


parser = argparse.ArgumentParser(parents=[model_server.parser])
args, _ = parser.parse_known_args()

if __name__ == "__main__":
    ModelServer().start([AlexNetModel(args.model_name)])
