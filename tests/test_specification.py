"""The specifications are whole: an example of each body that fits its schema, each refusal by its
status, and nothing but our own routes.
"""

import json

import pytest
from jsonschema import Draft202012Validator

from tests.doors import opened
from tests.fakes import ScriptedEngine

DOORS = ("/api", "/v1")
TEXTS = ("text/event-stream", "text/markdown")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("door"), ScriptedEngine()) as (_, client):
        yield client


@pytest.fixture(params=DOORS)
def specification(client, request):
    return client.get(f"{request.param}/openapi.json").json()


def operations(specification):
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def bodies(operation):
    """(which, media type, content) of its request and of its answers."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", kind, content
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            yield status, kind, content


def test_every_json_body_has_an_example_that_fits_its_schema(specification):
    missing, wrong = [], []
    for route, operation in operations(specification):
        for which, kind, content in bodies(operation):
            if kind != "application/json" or which == "default" or content["schema"].get("type") == "object":
                continue
            if "example" not in content:
                missing.append(f"{route} {which}")
                continue
            schema = {**content["schema"], "components": specification["components"]}
            wrong += [f"{route} {which}: {e.message}" for e in
                      Draft202012Validator(schema).iter_errors(content["example"])]  # fmt: skip
    assert missing == []
    assert wrong == []


def test_every_stream_and_text_has_an_example(specification):
    for route, operation in operations(specification):
        for which, kind, content in bodies(operation):
            if kind in TEXTS:
                assert content.get("example"), f"{route} {which}"


def test_an_example_shows_every_field_of_an_answer(client):
    """A field that came later is not forgotten in its example."""
    specification = client.get("/api/openapi.json").json()
    for route, operation in operations(specification):
        for which, kind, content in bodies(operation):
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if which != "request" and kind == "application/json" and name and which != "default":
                fields = specification["components"]["schemas"][name]["properties"]
                assert set(fields) == set(content["example"]), route


def test_each_route_of_ours_names_what_it_may_refuse(client):
    specification = client.get("/api/openapi.json").json()
    for route, operation in operations(specification):
        named = set(operation["responses"])
        assert {"403", "422", "500", "503"} <= named, route
        assert ("{" in route and not route.endswith("/pull")) <= ("404" in named), route
        assert ("requestBody" in operation) <= ({"413", "415"} <= named), route
        for status in named - {"default"}:
            if int(status) >= 400 and (route, status) != ("POST /documents", "422"):
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, f"{route} {status}"


def test_only_our_own_routes_are_specified(specification):
    text = json.dumps(specification)
    assert "gradio" not in text.lower()
    assert "HTTPValidationError" not in json.dumps(specification["paths"])


def test_the_documentation_shows_both_doors_with_their_examples_and_loads_nothing(client):
    page = client.get("/api/docs").text
    for words in ("/api/sessions/{session_id}/messages", "/v1/chat/completions", "Rental contract"):
        assert words in page
    for loader in ("<script", "<link", "<img", "<iframe", "http://", "https://", "//cdn", "src=", "@import"):
        assert loader not in page
