"""The OpenAPI document, made from the table of endpoints, so that it says what is served. Knows schemas; serves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from .answers import RunState
from .problems import CODES
from .routes import ENDPOINTS, OPTIONAL, Endpoint, NewRefactor, NewRun, _Model

_GUARD: Final = ("bad-request", "bad-host", "unauthorized", "cross-origin", "no-such-method", "bug")
_WITH_BODY: Final = ("unsupported-content-type", "too-large", "too-slow")
_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "repository": {"in": "path", "schema": {"type": "string", "pattern": "^[a-z0-9-]{1,60}$"}},
    "run": {"in": "path", "schema": {"type": "string", "pattern": "^r[1-9][0-9]{0,8}$"}},
    "limit": {"in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
    "state": {
        "in": "query",
        "schema": {"type": "string", "enum": get_args(RunState)},
        "description": "only runs in this state",
    },
    "from": {
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "default": 1},
        "description": "the first sequence number; where a Last-Event-ID is given, the one after that",
    },
    "heartbeat_s": {"in": "query", "schema": {"type": "number", "minimum": 0.05, "maximum": 60, "default": 15}},
    "within_s": {"in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 60, "default": 20}},
    "stat": {"in": "query", "schema": {"type": "boolean", "default": False}, "description": "only a summary"},
    "task": {"in": "query", "schema": {"type": "string"}, "description": "only this task's commit"},
}
_TASK_IN_PATH: Final = {"in": "path", "schema": {"type": "string", "minLength": 1}}


def describe(version: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    bodies = sorted({one.body for one in ENDPOINTS if one.body is not None}, key=lambda model: model.__name__)
    _, schemas = _schemas(bodies)
    answered = [one for one in ENDPOINTS if one.gives is not None]
    given, models = _schemas([one.gives for one in answered])
    for name, model in models.items():
        assert name not in schemas, f"two models are called {name}"
        _always_whole(model)
    gives = dict(zip(answered, given, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in ENDPOINTS:
        operation = _operation(one, gives.get(one, {"type": "string"}))
        paths.setdefault(one.path.replace("{task:path}", "{task}"), {})[one.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Journeyman",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas, **models, "Problem": _problem(), "Plan": {"type": "string"}},
        },
    }


def _schemas(types: Sequence[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, dict[str, Any]]]:
    return msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")


def _always_whole(model: dict[str, Any]) -> None:
    """What has a default is in an answer all the same; only what may be unset is not."""
    fields = model.get("properties", {})
    with_default = [name for name, field in fields.items() if "default" in field]
    for name in with_default:
        del fields[name]["default"]
    model["required"] = [*model.get("required", ()), *with_default]


def _operation(one: Endpoint, gives: dict[str, Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
    parameters = []
    for name in names:
        plain = name.removesuffix(":path")
        kind = _TASK_IN_PATH if name.endswith(":path") else _PARAMETERS[plain]
        parameters.append({"name": plain, "required": True, **kind})
    parameters += [{"name": name, **_PARAMETERS[name]} for name in one.query]
    if one.body in (NewRun, NewRefactor):
        parameters += [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
                "description": "the same key and plan give the same run",
            },
            {
                "name": "Journeyman-Client",
                "in": "header",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@:/-]{0,63}$"},
                "description": "who asks: the queue is fair between clients",
            },
        ]
    handler: Any = one.handler
    operation: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": one.summary,
        "parameters": parameters,
        "responses": _responses(one, gives),
    }
    if one.body is not None:
        operation["requestBody"] = _request_body(one, one.body)
    return operation


def _request_body(one: Endpoint, model: type[_Model]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    if model is NewRun:
        for kind in ("application/toml", "application/yaml"):
            content[kind] = {"schema": {"$ref": "#/components/schemas/Plan"}}
    return {"required": model not in OPTIONAL, "content": content}


def _responses(one: Endpoint, gives: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {str(one.status): {"description": "OK", "content": {one.content: {"schema": gives}}}}
    if one.status == 201:
        found["200"] = {"description": "It was submitted before, under this key", "content": found["201"]["content"]}
    codes: dict[int, list[str]] = {}
    for code in (*_GUARD, *(_WITH_BODY if one.method in ("POST", "PUT") else ()), *one.problems):
        listed = codes.setdefault(CODES[code][0], [])
        if code not in listed:
            listed.append(code)
    for status, names in sorted(codes.items()):
        found[str(status)] = {
            "description": ", ".join(names),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return found


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "code", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "code": {"type": "string", "enum": sorted(CODES)},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "problems": {"type": "array", "items": {"type": "string"}},
        },
    }
