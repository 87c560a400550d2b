"""A minimal MLServer runtime, as in its documentation: `mlserver start conformance/servers/mlserver`.

The model doubles its input: FP32 [-1, 4] → FP32 [-1, 4]. It reports input that it cannot read as the client's mistake,
so that all findings are MLServer's own.
"""

from __future__ import annotations

import asyncio
import os

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse


class Doubler(MLModel):
    async def load(self) -> bool:
        await asyncio.sleep(float(os.environ.get("DOUBLER_LOADS_S", "0")))  # so that it can be polled meanwhile
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if not payload.inputs:
            raise InferenceError("no inputs")
        numbers = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="output-0", payload=numbers * 2)]
        )
