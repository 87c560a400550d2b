"""A minimal KServe SDK server, as in its documentation: `python conformance/servers/kserve_sdk.py --help`.

The model doubles its input: FP32 [-1, 4] → FP32 [-1, 4]. It reports input that it cannot read as the client's mistake,
so that all findings are the SDK's own.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from kserve.errors import InvalidInput
from kserve.utils.utils import get_predict_response

from kserve import InferRequest, Model, ModelServer, model_server

TENSOR = {"datatype": "FP32", "shape": [-1, 4]}


class Doubler(Model):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self.ready = True
        return True

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": "input-0", **TENSOR}]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": "output-0", **TENSOR}]  # the name that get_predict_response gives

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        if isinstance(payload, InferRequest):
            if not payload.inputs:
                raise InvalidInput("no inputs")
            instances = payload.inputs[0].as_numpy()
        else:
            try:
                instances = np.array(payload["instances"], dtype=np.float32)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidInput(f"instances: {error}") from None
        return get_predict_response(payload, instances * 2, self.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    ModelServer().start([Doubler(parser.parse_args().model_name)])
