"""Predict calls, in any of the protocols."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from pipeline.serving.address import Address
from pipeline.serving.pictures import read_file
from pipeline.serving.protocol import (
    Class,
    Explained,
    Protocol,
    Question,
    classes_in,
    classes_in_v2,
    explained_in,
    question,
    question_why,
)
from pipeline.serving.trouble import trouble
from pipeline.shared.deadline import within
from pipeline.shared.errors import BadHeader, NoServer, NotClassified, TooManyCalls
from pipeline.shared.http import http_client, is_loopback, proxy_of, trusted
from pipeline.shared.text import one_line

if TYPE_CHECKING:
    from pipeline.serving.over_grpc import Calls, Refused

TIMEOUT = httpx.Timeout(60, connect=5)  # seconds
LONGEST_QUESTION_S = 10  # for asking the model's name
LONGEST_S = 90  # from the first byte of a call to the last byte of its answer
CALLS_AT_ONCE = 8  # enough for the server to form batches
MOST_ANSWER_BYTES = 16 * 1024 * 1024  # the server's own bound (config.properties, max_response_size)
MODEL = re.compile(r"[\w.-]{1,250}", re.ASCII)  # as in a URL
ADDRESS = re.compile(r"[0-9.]+|.*:.*")  # an IP address, not a name

Read = TypeVar("Read")

SECRET = {"authorization", "x-api-key", "cookie"}  # headers
NOT_FETCHED = ".url: not fetched: "  # in the server's error about a URL that it may not fetch
BY_URL = ": the server's setting handler.url.allowed_hosts (handler/model-config.yaml) names the hosts that it may ask"
# TorchServe's errors when its KServe envelope gets a body that is not v1's. The model's own errors are different.
OF_AN_ENVELOPE = ("Prediction failed", "number of batch response mismatched")
STRANGE = " does not answer like this model: is it another server?"
CREDENTIALS = "--token-file, --gcloud-token or --header @FILE"


class Client:
    """Asks a server's model to classify images. A context manager.

    url: the server's, see Address. model: used unless the URL or `find_model` names another one.
    headers: sent with each call, names in lower case. authorities: as for `trusted`.
    picture: an image, as the user names it → its bytes, or in v1 the URL that the server should fetch; raises
    NotClassified.

    Proxies are used for all hosts except loopback.
    """

    def __init__(
        self,
        url: str,
        model: str,
        headers: Mapping[str, str] | None = None,
        authorities: Path | None = None,
        picture: Callable[[str], bytes | str] = read_file,
        protocol: Protocol = Protocol.V1,
    ) -> None:
        self.address = Address.parse(url, model)
        self._headers = dict(headers or {})
        if self.address.server.userinfo and "authorization" in self._headers:
            raise BadHeader("--url", "has a name or password, and a token or header was given too: give only one")
        self._proxy = proxy_of(self.address.server)
        self._picture, self._protocol = picture, protocol
        self._extensions = _server_name(self.address.server, self._headers.get("host"))
        wants_tls = authorities is not None or self.address.server.scheme == "https"
        verify = trusted(authorities) if wants_tls else ssl.create_default_context()
        self._http = http_client(TIMEOUT, proxy=self._proxy, trust_env=False, verify=verify)
        self._calls = self._over_grpc(authorities) if protocol is Protocol.GRPC else None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.close()
        if self._calls:
            self._calls.close()

    def find_model(self) -> None:
        """If the URL names no model, asks the server for its model. Without an answer, nothing changes.

        A gateway may let only predict calls through.
        """
        if self.address.is_named:
            return
        url = self.address.models
        with suppress(
            httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, LookupError, TypeError, RecursionError
        ):
            answer = within(LONGEST_QUESTION_S, lambda: self._answer("GET", url))
            names = answer.json()["models"]
            if answer.is_success and isinstance(names, list) and len(names) == 1 and MODEL.fullmatch(names[0]):
                self.address = replace(self.address, model=names[0])

    @property
    def warning(self) -> str | None:
        """A warning if a token or a key would leave this machine unencrypted."""
        url = self.address.server
        has_some = bool(url.userinfo) or not SECRET.isdisjoint(self._headers)
        if not has_some or url.scheme != "http" or is_loopback(url.host):
            return None
        return f"{self.address} is not https: anybody on the network path can read the token or key"

    def predict_all(self, images: list[str], top_k: int) -> Iterator[list[Class] | NotClassified]:
        """For each image, in order: what `predict` returns, or the NotClassified it raises. NoServer ends it."""

        def attempt(image: str) -> list[Class] | NotClassified:
            try:
                return self.predict(image, top_k)
            except NotClassified as error:
                return error

        pool = ThreadPoolExecutor(CALLS_AT_ONCE)
        try:
            yield from pool.map(attempt, images)
        finally:
            pool.shutdown(cancel_futures=True)

    def explain_all(self, images: list[str], top_k: int) -> Iterator[Explained | NotClassified]:
        """The same with `explain`, one image at a time: a server accepts few explanations at once."""
        for image in images:
            try:
                yield self.explain(image, top_k)
            except NotClassified as error:
                yield error

    def predict(self, image: str, top_k: int) -> list[Class]:
        """One call for an image → its classes, most probable first.

        Raises NoServer, or NotClassified if the image cannot be read or the server refuses it (TooManyCalls: for now).
        """
        return self.classify(image, self._picture(image), top_k)

    def explain(self, image: str, top_k: int) -> Explained:
        """The same, and which part of the image led to the first class. Not in v2 or over gRPC."""
        asked = question_why(self._protocol, self.address.model, self._picture(image), top_k)
        return self._asked(image, asked, explained_in)

    def classify(self, image: str, picture: bytes | str, top_k: int) -> list[Class]:
        """As `predict`, for an image that has been read, or its URL. image: how errors name it."""
        if self._calls:
            assert isinstance(picture, bytes)
            return self._classify_over_grpc(self._calls, image, picture, top_k)
        asked = question(self._protocol, self.address.model, picture, top_k)
        return self._asked(image, asked, classes_in_v2 if self._protocol is Protocol.V2 else classes_in)

    def _asked(self, image: str, asked: Question, read: Callable[[Any], Read]) -> Read:
        """read: parses the answer's JSON; raises ValueError, LookupError or TypeError."""
        response = self._answer_for(image, "POST", self.address.at(asked.route), asked)
        if not response.is_success:
            what = TooManyCalls if response.status_code == httpx.codes.TOO_MANY_REQUESTS else NotClassified
            raise what(image, self._refusal(response))
        try:
            return read(response.json())
        except (ValueError, LookupError, TypeError, RecursionError):
            raise NotClassified(image, self._strange(response)) from None

    def _answer_for(self, image: str, method: str, url: httpx.URL, asked: Question | None) -> httpx.Response:
        """The answer, whatever its status. Raises NoServer or NotClassified if there is none."""
        try:
            return within(LONGEST_S, lambda: self._answer(method, url, asked))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            found = trouble(error, url, self._proxy)
            raise NoServer(str(self.address), found.remedy, None if found.nothing_here else found.what) from None
        except (httpx.TimeoutException, TimeoutError):
            raise NotClassified(image, self._late()) from None
        except httpx.InvalidURL:  # in a redirect, which httpx parses
            raise NotClassified(image, f"{self.address} redirects to an invalid URL: is it another server?") from None
        except httpx.RequestError as error:
            found = trouble(error, url, self._proxy)
            raise NotClassified(image, f"{found.what}: {found.remedy}") from None

    def _answer(self, method: str, url: httpx.URL, asked: Question | None = None) -> httpx.Response:
        """The answer, with as much of its body as is useful. Raises httpx.RequestError."""
        body, headers = None, self._headers
        if asked is not None:
            url = url.copy_merge_params(asked.query) if asked.query else url
            body, headers = asked.body, {"content-type": asked.content_type, **asked.headers, **headers}
        with self._http.stream(method, url, content=body, headers=headers, extensions=self._extensions) as response:
            content = bytearray()
            for chunk in response.iter_bytes(65536):
                content += chunk
                if len(content) > MOST_ANSWER_BYTES:
                    break
        # As bytes: httpx accepts only ASCII text here.
        kept = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(response.status_code, headers=kept, content=bytes(content), request=response.request)

    def _over_grpc(self, authorities: Path | None) -> Calls:
        from pipeline.serving.over_grpc import Calls

        certificates = authorities or (Path(said) if (said := os.environ.get("SSL_CERT_FILE")) else None)
        pem = certificates.read_bytes() if certificates else None  # `trusted` has read it already
        return Calls(self.address, self._headers, pem, self._proxy is not None, LONGEST_S)

    def _classify_over_grpc(self, calls: Calls, image: str, picture: bytes, top_k: int) -> list[Class]:
        from pipeline.serving.over_grpc import Refused

        try:
            return calls.classify(self.address.model, picture, top_k)
        except Refused as refused:
            if not refused.by_a_server:  # HTTP's error explains better why nobody answers
                self._answer_for(image, "GET", self.address.models, None)
            raise NotClassified(image, self._refusal_over_grpc(refused)) from None
        except (ValueError, LookupError, TypeError):
            raise NotClassified(image, f"{self.address}{STRANGE}") from None

    def _refusal_over_grpc(self, refused: Refused) -> str:
        """The server's own message, or a guess at who refused."""
        if refused.name == "DEADLINE_EXCEEDED":
            return self._late()
        sentence = f"{refused.name}: {one_line(refused.sentence) or 'no reason given'}"
        if not refused.by_a_server or refused.name == "UNIMPLEMENTED":
            return f"{sentence}: {self.address}, or a proxy before it, does not speak gRPC: give --protocol raw"
        return f"{sentence}: {self._credentials()}" if refused.name == "UNAUTHENTICATED" else sentence

    def _late(self) -> str:
        return f"no complete answer from {self.address} in time ({TIMEOUT.read:g} s)"

    def _credentials(self) -> str:
        """What to do when the server asks for credentials."""
        given = bool(self.address.server.userinfo) or not SECRET.isdisjoint(self._headers)
        return "the credentials are not accepted" if given else f"give {CREDENTIALS}"

    def _strange(self, response: httpx.Response) -> str:
        if response.headers.get("content-type", "").startswith("text/html"):
            return f"{self.address} answers with a web page: is it a login page ({CREDENTIALS}), or another server?"
        return f"{self.address}{STRANGE}"

    def _refusal(self, response: httpx.Response) -> str:
        """The server's own message (the model's {"error": …}, TorchServe's {"message": …}) or a guess at its source."""
        status = response.status_code
        said = _said(response)
        sentence = f"{status}: {said or one_line(response.reason_phrase) or 'no reason given'}"
        given = bool(self.address.server.userinfo) or not SECRET.isdisjoint(self._headers)
        if status == 401:
            return f"{sentence}: {self._credentials()}"
        if said in OF_AN_ENVELOPE and self._protocol is not Protocol.V1:
            return f"{sentence}: a runtime that takes only JSON, such as the stock one, needs --protocol v1"
        if said is not None:
            return f"{sentence}{BY_URL}" if status == 403 and NOT_FETCHED in said else sentence
        if status == 407:
            return f"{sentence}: the proxy requires a name and a password"
        if response.has_redirect_location:
            return f"{status}: {self._redirect(response)}"
        if status == 403:
            question = "may this account call it?" if given else f"does it need {CREDENTIALS}?"
            return f"{sentence}: this is from a gateway, not the model: {question}"
        if status == 404:
            return (
                f"{sentence}: an ingress or gateway may not know this host or path: "
                "give --header 'Host: …', or another --url"
            )
        if status == 400 and self.address.server.scheme == "http" and b"https" in response.content.lower():
            return f"{sentence}: {self.address.server.netloc.decode()} speaks HTTPS, not HTTP: give https://…"
        if status in (502, 503, 504):
            return f"{sentence}: this is from a gateway or proxy, not the model: is a pod ready?"
        return sentence

    def _redirect(self, response: httpx.Response) -> str:
        ours, asked = self.address.server, response.request.url
        target = asked.join(response.headers["location"])
        shown = target.copy_with(userinfo=None, query=None, fragment=None)
        if target.path == asked.path:
            return f"redirects to another address: give --url {shown.copy_with(path=ours.path)}"
        return f"redirects to {one_line(shown)}, perhaps a login page: give {CREDENTIALS}"


def _server_name(url: httpx.URL, host: str | None) -> dict[str, str]:
    """For an IP address whose certificate is for a name: TLS asks for the name in the Host header, and checks it."""
    if host and url.scheme == "https" and ADDRESS.fullmatch(url.host):
        return {"sni_hostname": host.partition(":")[0]}
    return {}


def _said(response: httpx.Response) -> str | None:
    """The message in a JSON body of this server's or TorchServe's shape."""
    try:
        body = response.json()
        said = body.get("error") or body.get("message")
    except (ValueError, AttributeError, RecursionError):
        return None
    return one_line(said) or None
