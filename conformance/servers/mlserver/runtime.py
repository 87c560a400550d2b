"""A minimal runtime of MLServer, as its documentation has one: `mlserver start conformance/servers/mlserver`.

The model doubles what it is given: FP32 [-1, 4] → FP32 [-1, 4]. It blames the client for what it cannot read itself, so
that what is found is MLServer's.
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
        await asyncio.sleep(float(os.environ.get("DOUBLER_LOADS_S", "0")))  # so that it can be asked meanwhile
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if not payload.inputs:
            raise InferenceError("no inputs")
        numbers = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="output-0", payload=numbers * 2)]
        )
