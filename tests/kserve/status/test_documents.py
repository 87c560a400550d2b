"""The server's API documentation: valid, with the archive's numbers, and a self-contained page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import yaml
from ts.model_server import load_properties

from pipeline.artefact.version import ARCHIVE
from server.door import MAX_REQUEST_BYTES
from server.status import StatusServer
from server.status.documents import Documents
from server.status.limits import CLASSES, CONFIG, MOST_CONFIG_BYTES, read_limits
from tests.kserve.status.told import NAME, VERSION, Ask, Serve, ToldModel, ask_at
from vision.errors import RequestError
from vision.protocol.protocols import class_bytes
from vision.worker.settings import LimitSettings

PREDICT = f"/v1/models/{NAME}:predict"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def limits(checkout: Path) -> dict[str, int]:
    made: dict[str, int] = yaml.safe_load((checkout / "handler" / CONFIG).read_text())["handler"]["limits"]
    return made


@pytest.fixture(scope="module")
def documents(directory: Path) -> Documents:
    return Documents(NAME, VERSION, read_limits(directory / ARCHIVE))


@pytest.fixture(scope="module")
def document(documents: Documents) -> Json:
    made: Json = json.loads(documents.openapi)
    return made


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


# --- The document -----------------------------------------------------------------------------------------------------


def test_it_is_openapi_3_1(document: Json) -> None:
    schemathesis.openapi.from_dict(document).validate()


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from references(inner)


def test_everything_that_is_described_is_used(document: Json) -> None:
    described = {f"#/components/{kind}/{name}" for kind, parts in document["components"].items() for name in parts}
    assert set(references(document)) == described


def test_its_numbers_are_those_of_the_archive(document: Json, limits: dict[str, int]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Instances"]["properties"]["instances"]["maxItems"] == limits["max_instances"]
    assert schemas["Predictions"]["properties"]["predictions"]["maxItems"] == limits["max_instances"]
    assert schemas["Files"]["maxItems"] == limits["max_instances"]
    assert schemas["Prediction"]["properties"]["classes"]["maxItems"] == limits["max_top_k"]
    assert schemas["TopK"]["maximum"] == limits["max_top_k"]
    assert schemas["TopK"]["default"] == limits["default_top_k"]


def test_its_table_of_limits_leaves_none_out(document: Json, limits: dict[str, int], checkout: Path) -> None:
    stated = [_number(limit["most"]) for limit in document["paths"][PREDICT]["post"]["x-limits"]]
    assert sorted(stated) == sorted(
        [MAX_REQUEST_BYTES, *(value for name, value in limits.items() if name.startswith("max_"))]
    )
    assert int(load_properties(str(checkout / "config.properties"))["max_request_size"]) == MAX_REQUEST_BYTES


@pytest.mark.parametrize(
    ("name", "value", "stated"),
    [("max_classes", 10_000, "10,000"), ("max_image_bytes", 1_000_000, "1,000,000 bytes"), ("max_instances", 1, "1")],
)
def test_another_archive_has_others(name: str, value: int, stated: str) -> None:
    document = json.loads(Documents(NAME, VERSION, {name: value}).openapi)
    assert [limit["most"] for limit in document["paths"][PREDICT]["post"]["x-limits"]] == ["16 MiB", stated]


@pytest.mark.parametrize(
    ("count", "label"), [(1, "a"), (2, "a"), (5, "🐈" * 250), (1000, "🐈" * 250), (21_841, "a"), (999, "a" * 250)]
)
def test_a_model_with_another_number_of_classes_says_what_it_gives(
    count: int, label: str, limits: dict[str, int], checkout: Path, tmp_path: Path
) -> None:
    classes = [[None, label]] * count
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as archive:
        archive.write(checkout / "handler" / CONFIG, CONFIG)
        archive.writestr(CLASSES, json.dumps(classes))
    told = Documents(NAME, VERSION, read_limits(tmp_path / "a.mar"))
    document = json.loads(told.openapi)
    schemas, given = document["components"]["schemas"], min(count, 1000)
    handlers = LimitSettings(**limits).of_model(count, class_bytes([(None, label) for _ in classes]))
    assert schemas["Prediction"]["properties"]["classes"]["maxItems"] == given
    assert schemas["TopK"]["maximum"] == limits["max_top_k"]  # more is refused
    assert schemas["TopK"]["default"] == min(given, 5)
    assert schemas["TopK"]["description"].endswith(f"for each image; all {count} if it is more than the model has.")
    stated = {limit["what"]: limit["most"] for limit in document["paths"][PREDICT]["post"]["x-limits"]}
    assert stated["Classes for each image (`top_k`)"] == f"{given:,}"
    assert stated["Classes in an answer: images × `top_k`"] == f"{min(handlers.max_classes, 64 * given):,}"
    assert f"<td>{given:,}" in told.page.decode()
    predictions = document["components"]["schemas"]["Predictions"]
    one = [{"index": 0, "label": label, "probability": 1}]
    jsonschema_rs.validate({**document, **predictions}, {"predictions": [{"classes": one}]})


def test_an_archive_whose_classes_cannot_be_read_states_the_settings(
    limits: dict[str, int], checkout: Path, tmp_path: Path
) -> None:
    """An older archive has them in another file, and its handler gives as many as the setting says."""
    for content in (None, b"[", b"{}", b"[]", b"[5]", b"[" + b"[null]," * 3_000_000):
        with zipfile.ZipFile(tmp_path / "a.mar", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(checkout / "handler" / CONFIG, CONFIG)
            if content is not None:
                archive.writestr(CLASSES, content)
        assert read_limits(tmp_path / "a.mar") == limits


def test_of_an_older_archive_nothing_is_said_that_it_does_not_do(
    temporary: Path, document: Json, checkout: Path, tmp_path: Path, model: ToldModel, stopping: threading.Event
) -> None:
    """The current server serves older archives."""
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as archive:
        archive.write(checkout / "handler" / CONFIG, CONFIG)
        archive.writestr("vision/protocol/v1.py", "")
    server = StatusServer(temporary / "s", NAME, VERSION, model, stopping, tmp_path / "a.mar")
    try:
        older, service, told, metadata, page = (
            server.answers.get(path).body for path in ("/openapi.json", "/", "/v2", f"/v2/models/{NAME}", "/docs")
        )
    finally:
        server.server_close()
    assert json.loads(told)["extensions"] == []
    assert (json.loads(metadata)["inputs"], json.loads(metadata)["outputs"]) == ([], [])
    assert not {"infer", "explain"} & json.loads(service)["links"].keys()
    made = json.loads(older)
    missing = document["paths"].keys() - made["paths"].keys()
    assert missing == {
        PREDICT.replace("predict", "explain"),
        *(f"/v2/models/{NAME}/{verb}" for verb in ("infer", "explain")),
    }
    for schema, said in (("Service", service), ("Server", told), ("Model", metadata)):
        jsonschema_rs.validate({**made, "$ref": f"#/components/schemas/{schema}"}, json.loads(said))
    assert b"Explain" not in page


def _number(text: str) -> int:
    count, _, unit = text.replace(",", "").partition(" ")
    return int(count) * {"": 1, "bytes": 1, "MiB": 1024 * 1024}[unit]


@pytest.mark.parametrize(
    "content",
    [
        b"handler: [",
        b"handler: {limits: 5}",
        b"handler: {limits: {max_instances: many}}",
        b"\xff",
        b"",
        b"a" * MOST_CONFIG_BYTES + b"\nhandler: {limits: {max_instances: 5}}",
        None,
    ],
)
def test_an_archive_that_says_nothing_of_them_is_no_reason_not_to_serve(
    serve: Serve, tmp_path: Path, content: bytes | None
) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as archive:
        if content is not None:
            archive.writestr(CONFIG, content)
    document = json.loads(ask_at(serve(tmp_path / "a.mar"), "/openapi.json").content)
    assert "maxItems" not in document["components"]["schemas"]["Instances"]["properties"]["instances"]
    assert [limit["most"] for limit in document["paths"][PREDICT]["post"]["x-limits"]] == ["16 MiB"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more"])
def test_neither_is_one_that_is_damaged_or_missing(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.mar").write_bytes(damage)
    assert read_limits(tmp_path / "a.mar") == read_limits(tmp_path / "none.mar") == read_limits(None) == {}


@pytest.mark.parametrize("name", ["1e5", "true", "null", "a.b-c", "0x10", "_"])
def test_any_name_of_a_model_will_do(name: str) -> None:
    made = json.loads(Documents(name, name, {}).openapi)
    assert (made["info"]["title"], made["info"]["version"]) == (name, name)
    assert f"/v1/models/{name}:predict" in made["paths"]
    assert made["components"]["schemas"]["Name"]["const"] == name
    assert Documents(name, name, {}).page


def statuses_of(error: type[RequestError]) -> set[int]:
    return {error.status}.union(*(statuses_of(kind) for kind in error.__subclasses__()))


def test_it_has_each_status_that_the_handler_and_the_door_answer(document: Json, checkout: Path) -> None:
    runtime = checkout / "kserve" / "runtime"
    said = (runtime / "envoy.yaml").read_text() + (runtime / "door.lua").read_text()
    doors = set(map(int, re.findall(r'(?:\(|status: |":status"\] = ")(\d{3})[,"]', said)))
    assert {404, 405, 408, 413, 415, 431, 503} < doors  # they are found
    documented = {int(status) for status in document["paths"][PREDICT]["post"]["responses"]}
    no_predict_calls = {426, 501}  # what no client that keeps to HTTP sees: old versions, odd transfer codings
    assert (statuses_of(RequestError) | doors) - no_predict_calls - documented == set()


def test_each_refusal_has_our_shape(document: Json) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status != "200":
                assert response == {"$ref": f"#/components/responses/{status}"}, f"{method} {path}"
    for status, response in document["components"]["responses"].items():
        (media_type,) = response["content"]
        assert media_type == "application/json"
        assert re.fullmatch(r"[a-z]\S*: .+", response["content"][media_type]["example"]["error"]), status
    headers = {
        status: set(response.get("headers", ())) for status, response in document["components"]["responses"].items()
    }
    assert {status: names for status, names in headers.items() if names} == {
        "405": {"Allow"},
        "429": {"Retry-After"},
        "503": {"Retry-After"},
    }


def test_its_examples_are_as_its_schemas_say(document: Json) -> None:
    checked = 0
    for _, _, operation in operations(document):
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for response in [*contents, *document["components"]["responses"].values()]:
            for content in response.get("content", {}).values():
                examples = [example["value"] for example in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                for example in examples:
                    jsonschema_rs.validate({**document, **content["schema"]}, example)
                    checked += 1
    assert checked > len(document["components"]["responses"])


# --- The page ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The parts that matter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.style = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style" and not self.style:
            self.style = data
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def page(documents: Documents) -> Page:
    return Page(documents.page.decode())


def test_the_page_asks_for_nothing(page: Page) -> None:
    assert page.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "svg", "video"} == set()
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "id", "class", "href"}
    assert re.search(r"url\(|@import|//", page.style) is None


def test_its_links_lead_somewhere(page: Page) -> None:
    targets = page.values("id")
    assert len(targets) == len(set(targets))
    assert {href for href in page.values("href") if not href.startswith("#")} == {"/openapi.json"}
    assert {href[1:] for href in page.values("href") if href.startswith("#")} <= set(targets)


def test_a_browser_takes_its_style_and_no_other(ask: Ask) -> None:
    told = ask("/docs")
    page = Page(told.content.decode())
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policy = told.headers["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert told.headers["Content-Type"] == "text/html; charset=utf-8"


def test_the_page_has_all_of_the_document(page: Page, document: Json) -> None:
    text = " ".join(page.texts)
    for path, _, operation in operations(document):
        assert path in page.texts
        assert operation["operationId"] in page.values("id")
        for sample in operation.get("x-codeSamples", []):
            assert sample["source"] in page.texts
        for limit in operation.get("x-limits", []):
            assert limit["most"] in page.texts
    for status, response in document["components"]["responses"].items():
        assert json.dumps(response["content"]["application/json"]["example"], ensure_ascii=False) in text, status
    for name, schema in document["components"]["schemas"].items():
        assert name in page.values("id")
        for described in schema.get("properties", {}):
            assert described in page.texts
