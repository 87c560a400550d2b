"""KServe v1 predict calls."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, NotRequired, TypedDict

import httpx

from pipeline.serving.address import Address
from pipeline.serving.pictures import read_file
from pipeline.serving.trouble import trouble
from pipeline.shared.deadline import within
from pipeline.shared.errors import BadHeader, NoServer, NotClassified, TooManyCalls
from pipeline.shared.http import http_client, is_loopback, proxy_of, trusted
from pipeline.shared.text import one_line

TIMEOUT = httpx.Timeout(60, connect=5)  # seconds
LONGEST_QUESTION_S = 10  # for the name of the model
LONGEST_S = 90  # from the first byte of a call to the last of its answer
CALLS_AT_ONCE = 8  # enough for the server to form batches
MOST_ANSWER_BYTES = 16 * 1024 * 1024  # the server's own bound (config.properties, max_response_size)
MODEL = re.compile(r"[\w.-]{1,250}", re.ASCII)  # as in a URL
ADDRESS = re.compile(r"[0-9.]+|.*:.*")  # an IP address, no name

SECRET = {"authorization", "x-api-key", "cookie"}  # headers
NOT_FETCHED = ".url: not fetched: "  # in what the server says of a URL that it may not fetch
BY_URL = ": the server's setting handler.url.allowed_hosts (handler/model-config.yaml) names the hosts that it may ask"
CREDENTIALS = "--token-file, --gcloud-token or --header @FILE"


class Class(TypedDict):
    """As this model's answers have it. Only `label` and `probability` are checked: nothing else is relied on.

    wnid: the WordNet id, of a class that has one.
    """

    index: int
    wnid: NotRequired[str]
    label: str
    probability: float


class Client:
    """Asks a model of a server to classify images. A context manager.

    url: of the server, see Address. model: what is asked, if neither the URL nor `find_model` names another one.
    headers: sent with each call, names in lower case. verify: whose certificates are accepted, as `trusted` without it.
    instance: an image, as the user names it → a KServe v1 instance; it raises NotClassified.

    Proxies are for hosts other than loopback.
    """

    def __init__(
        self,
        url: str,
        model: str,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | None = None,
        instance: Callable[[str], dict[str, str]] | None = None,
    ) -> None:
        self.address = Address.parse(url, model)
        self._headers = dict(headers or {})
        if self.address.server.userinfo and "authorization" in self._headers:
            raise BadHeader("--url", "has a name or password, and there is a token or a header beside it: give one")
        self._proxy = proxy_of(self.address.server)
        self._instance = instance or file_instance
        self._extensions = _server_name(self.address.server, self._headers.get("host"))
        if verify is None:
            verify = trusted() if self.address.server.scheme == "https" else ssl.create_default_context()
        self._http = http_client(TIMEOUT, proxy=self._proxy, trust_env=False, verify=verify)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.close()

    def find_model(self) -> None:
        """Where the URL names no model: that of the server, which it asks. Where that has no answer, nothing changes.

        A gateway may let predict calls through, and no other.
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
        """Where a token or a key leaves this machine without encryption."""
        url = self.address.server
        has_some = bool(url.userinfo) or not SECRET.isdisjoint(self._headers)
        if not has_some or url.scheme != "http" or is_loopback(url.host):
            return None
        return f"{self.address} is not https: anybody on the way can read the token or key"

    def predict_all(self, images: list[str], top_k: int) -> Iterator[list[Class] | NotClassified]:
        """For each image, in order: what `predict` returns, or the NotClassified it raises. NoServer ends it all."""

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

    def predict(self, image: str, top_k: int) -> list[Class]:
        """One KServe v1 call for an image → its classes, most probable first.

        Raises NoServer, or NotClassified: the image cannot be read, or the server refuses it (TooManyCalls: for now).
        """
        return self.classify(image, self._instance(image), top_k)

    def classify(self, image: str, instance: dict[str, str], top_k: int) -> list[Class]:
        """The same for an image that is a KServe v1 instance already. image: how errors name it."""
        body = {"instances": [instance], "parameters": {"top_k": top_k}}
        url = self.address.predict
        try:
            response = within(LONGEST_S, lambda: self._answer("POST", url, body))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            found = trouble(error, url, self._proxy)
            raise NoServer(str(self.address), found.remedy, None if found.nothing_here else found.what) from None
        except (httpx.TimeoutException, TimeoutError):
            raise NotClassified(image, f"no whole answer from {self.address} in time ({TIMEOUT.read:g} s)") from None
        except httpx.InvalidURL:  # in a redirect, which httpx looks at
            raise NotClassified(image, f"{self.address} redirects to what is no URL: is it another server?") from None
        except httpx.RequestError as error:
            found = trouble(error, url, self._proxy)
            raise NotClassified(image, f"{found.what}: {found.remedy}") from None
        if not response.is_success:
            what = TooManyCalls if response.status_code == httpx.codes.TOO_MANY_REQUESTS else NotClassified
            raise what(image, self._refusal(response))
        try:
            return classes_in(response.json())
        except (ValueError, LookupError, TypeError, RecursionError):
            raise NotClassified(image, self._strange(response)) from None

    def _answer(self, method: str, url: httpx.URL, body: dict[str, Any] | None = None) -> httpx.Response:
        """With as much of its body as is of use. Raises httpx.RequestError."""
        with self._http.stream(method, url, json=body, headers=self._headers, extensions=self._extensions) as response:
            content = bytearray()
            for chunk in response.iter_bytes(65536):
                content += chunk
                if len(content) > MOST_ANSWER_BYTES:
                    break
        headers = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
        return httpx.Response(response.status_code, headers=headers, content=bytes(content), request=response.request)

    def _strange(self, response: httpx.Response) -> str:
        if response.headers.get("content-type", "").startswith("text/html"):
            return f"{self.address} answers with a web page: is it that of a login ({CREDENTIALS}), or another server?"
        return f"{self.address} does not answer as this model does: is it another server?"

    def _refusal(self, response: httpx.Response) -> str:
        """The server's own sentence: the model's {"error": …}, TorchServe's {"message": …}; or whose it seems to be."""
        status = response.status_code
        said = _said(response)
        sentence = f"{status}: {said or one_line(response.reason_phrase) or 'no reason given'}"
        given = bool(self.address.server.userinfo) or not SECRET.isdisjoint(self._headers)
        if status == 401:
            return f"{sentence}: {'what was given is not accepted' if given else f'give {CREDENTIALS}'}"
        if said is not None:
            return f"{sentence}{BY_URL}" if status == 403 and NOT_FETCHED in said else sentence
        if status == 407:
            return f"{sentence}: the proxy wants a name and a password"
        if response.has_redirect_location:
            return f"{status}: {self._redirect(response)}"
        if status == 403:
            question = "may this account call it?" if given else f"does it want {CREDENTIALS}?"
            return f"{sentence}: a gateway says so, not the model: {question}"
        if status == 404:
            return (
                f"{sentence}: an ingress or gateway may say so, which knows no such host or path: "
                "give --header 'Host: …', or another --url"
            )
        if status == 400 and self.address.server.scheme == "http" and "https" in response.text.lower():
            return f"{sentence}: {self.address.server.netloc.decode()} speaks HTTPS, not HTTP: give https://…"
        if status in (502, 503, 504):
            return f"{sentence}: a gateway or proxy says so, not the model: is a pod ready?"
        return sentence

    def _redirect(self, response: httpx.Response) -> str:
        ours, target = self.address.server, self.address.predict.join(response.headers["location"])
        shown = target.copy_with(userinfo=None, query=None, fragment=None)
        if target.path == self.address.predict.path:
            return f"redirects to another address: give --url {shown.copy_with(path=ours.path)}"
        return f"redirects to {one_line(shown)}, as to a login page: give {CREDENTIALS}"


def file_instance(image: str) -> dict[str, str]:
    """An image file → a KServe v1 instance. Raises NotClassified where it cannot be read."""
    return b64_instance(read_file(image))


def b64_instance(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _server_name(url: httpx.URL, host: str | None) -> dict[str, str]:
    """At an IP address, whose certificate is for a name: TLS asks for that of the Host header, and checks it."""
    if host and url.scheme == "https" and ADDRESS.fullmatch(url.host):
        return {"sni_hostname": host.partition(":")[0]}
    return {}


def classes_in(body: Any) -> list[Class]:
    """The JSON that answers a call for one image → its classes, most probable first.

    Raises ValueError, LookupError or TypeError where it is not an answer of this model's.
    """
    [prediction] = body["predictions"]
    classes = prediction["classes"]
    if not isinstance(classes, list) or not classes:
        raise TypeError
    for entry in classes:
        probability = entry["probability"]
        if not isinstance(entry["label"], str) or isinstance(probability, bool) or not 0 <= probability <= 1:
            raise TypeError
    return list(classes)


def _said(response: httpx.Response) -> str | None:
    """What a JSON body says, of this server's or of TorchServe's shape."""
    try:
        body = response.json()
        said = body.get("error") or body.get("message")
    except (ValueError, AttributeError, RecursionError):
        return None
    return one_line(said) or None
