"""The Open Inference Protocol's calls over gRPC. Imported only when needed: grpc takes 0.1 s."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import grpc

from conformance.messages import SERVICE, message
from pipeline.serving.address import Address
from pipeline.serving.protocol import INPUT, Class, element_of, of_columns
from pipeline.shared.errors import NoUrl

DIGITS = 6  # of a probability, as in JSON; over gRPC it arrives unrounded
MOST_ANSWER_BYTES = 16 * 1024 * 1024  # as over HTTP


NOT_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")  # in the words of gRPC's core


class Refused(Exception):
    """The call got no answer. name: the status's name. by_a_server: whether a gRPC server refused it."""

    def __init__(self, name: str, sentence: str) -> None:
        self.name, self.sentence = name, sentence
        self.by_a_server = not (name == "UNAVAILABLE" and sentence.startswith(NOT_CONNECTED))
        super().__init__(sentence)


class Calls:
    """Calls to one address. headers: sent with each, names in lower case. proxied: through the environment's proxy.

    authorities: certificates (PEM) to trust instead of gRPC's own. Raises NoUrl if the address has a path.
    """

    def __init__(
        self, address: Address, headers: Mapping[str, str], authorities: bytes | None, proxied: bool, timeout_s: float
    ) -> None:
        url = address.server
        if url.path not in ("", "/"):
            raise NoUrl(str(address), "gRPC allows no path in the URL")
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),  # the server decides what is too large
            ("grpc.max_receive_message_length", MOST_ANSWER_BYTES),
            ("grpc.enable_http_proxy", int(proxied)),
            ("grpc.enable_retries", 0),
        ]
        if "host" in headers:
            options += [("grpc.default_authority", headers["host"])]
            options += [("grpc.ssl_target_name_override", headers["host"].partition(":")[0])]
        target = f"{url.host if ':' not in url.host else f'[{url.host}]'}:{url.port or _port(url.scheme)}"
        if url.scheme == "https":
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(authorities), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._metadata = [(name, value) for name, value in headers.items() if name != "host"]
        if url.userinfo:
            self._metadata.append(("authorization", f"Basic {base64.b64encode(url.userinfo).decode()}"))
        self._timeout_s = timeout_s
        self._infer = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )

    def close(self) -> None:
        self._channel.close()

    def classify(self, model: str, content: bytes, top_k: int) -> list[Class]:
        """Raises Refused, or ValueError, LookupError or TypeError if the answer is not this model's."""
        request = message("ModelInferRequest")(model_name=model, raw_input_contents=[element_of(content)])
        request.inputs.add(name=INPUT, datatype="BYTES", shape=[1])
        request.parameters["top_k"].int64_param = top_k
        try:
            answer = self._infer(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise Refused(error.code().name, error.details() or "") from None
        try:
            return _classes_in(answer)
        except struct.error as error:
            raise ValueError(error) from None


def _classes_in(answer: Any) -> list[Class]:
    """A ModelInferResponse with raw contents → its classes. Raises ValueError, LookupError or struct.error."""
    names = [output.name for output in answer.outputs]
    raws = dict(zip(names, answer.raw_output_contents, strict=True))
    index = list(struct.unpack(f"<{len(raws['index']) // 8}q", raws["index"]))
    exact = struct.unpack(f"<{len(raws['probability']) // 4}f", raws["probability"])
    probability = [float(f"{value:.{DIGITS}g}") for value in exact]
    return of_columns(index, [element.decode() for element in _elements(raws["label"])], probability)


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _elements(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        if at + 4 + length > len(raw):
            raise ValueError
        yield raw[at + 4 : at + 4 + length]
        at += 4 + length
