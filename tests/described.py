"""What a daemon answers against its OpenAPI document, strictly: no field more and none less. Knows HTTP answers; asks for none."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import jsonschema

from runtime.service.openapi import describe


class Described:
    """Holds answers to the document."""

    def __init__(self) -> None:
        document = describe("any")
        for name, model in document["components"]["schemas"].items():
            if model.get("type") == "object" and name != "Problem":
                model.setdefault("additionalProperties", False)
        self.document = document
        self.paths = [
            (re.compile(re.sub(r"\{task\}", ".+", path).replace("{repository}", "[^/]+").replace("{run}", "[^/]+") + "$"), path)
            for path in sorted(document["paths"], key=len, reverse=True)
        ]  # fmt: skip

    def hold(self, answer: httpx2.Response) -> None:
        """An event hook for a client. Fails with the place where an answer is not what the document says."""
        kind = answer.headers.get("content-type", "").partition(";")[0]
        method, asked = answer.request.method.lower(), answer.request.url.path
        path = next((path for pattern, path in self.paths if pattern.match(asked)), None)
        operation: dict[str, Any] | None = self.document["paths"].get(path, {}).get(method)
        if operation is None:
            return
        known = operation["responses"].get(str(answer.status_code))
        assert known is not None, f"{method} {path} answered {answer.status_code}, which is not described"
        assert kind in known["content"], f"{method} {path} answered {kind}"
        if kind.endswith("json"):
            answer.read()
            schema = {**known["content"][kind]["schema"], "components": self.document["components"]}
            jsonschema.validate(answer.json(), schema, jsonschema.Draft202012Validator)
