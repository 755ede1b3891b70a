"""What a service answers, described: an OpenAPI 3.1 document, and a page made of it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings import Settings

_ERROR = {
    "type": "object",
    "required": ["error", "fix", "kind", "request"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong."},
        "fix": {"type": "string", "description": "What to do about it."},
        "kind": {"type": "string", "description": "A word, the same as in the metrics."},
        "request": {"type": "string", "description": "The id, also in X-Request-ID and the log."},
    },
}
_BOX = {
    "type": "array",
    "items": {"type": "integer"},
    "minItems": 4,
    "maxItems": 4,
    "description": "x0, y0, x1, y1 in pixels of the upright image, x1 and y1 exclusive.",
}
_RESULT = {
    "type": "object",
    "required": ["class", "label", "score", "box", "map", "recipe"],
    "properties": {
        "class": {"type": "integer", "description": "Index of the class."},
        "label": {"type": ["string", "null"]},
        "score": {"type": ["number", "null"], "description": "Unnormalised."},
        "box": {"oneOf": [_BOX, {"type": "null"}], "description": "null: nothing was found."},
        "map": {"type": "string", "description": "The kind of map."},
        "recipe": {"type": "string", "description": "How the map became a box."},
        "map_png": {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
            "description": "If asked for: the map in grey, to be laid over map_box.",
        },
        "overlay_png": {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
            "description": "If asked for: map and box over the image.",
        },
    },
}
_FOUND = {
    "type": "object",
    "required": ["image", "width", "height", "results"],
    "properties": {
        "image": {"type": "null"},
        "width": {"type": "integer", "description": "Of the upright image, in pixels."},
        "height": {"type": "integer"},
        "map_box": {**_BOX, "description": "If a map was asked for: what of the image it covers."},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
    },
}
_REFUSALS = {
    "400": "The request is not understood.",
    "401": "The key is missing or wrong.",
    "408": "The body did not arrive in time.",
    "413": "The image has too many bytes.",
    "422": "The image cannot be read, or there is no such class.",
    "429": "Too many requests; Retry-After says when to ask again.",
    "500": "The network failed, or the service has a fault.",
    "503": "The service is being stopped.",
    "504": "There was no answer in time.",
}


def document(settings: Settings, version: str, classes: int) -> dict[str, Any]:
    """The OpenAPI document of a service; its limits are in it.

    Args:
        settings: of the service.
        version: of Backlit.
        classes: that the file has.
    """
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Backlit", "version": version},
        "paths": {
            "/localize": {"post": _localize(settings, min(settings.limits.classes, classes))},
            "/healthz": {"get": _state("Whether the process works.", "alive")},
            "/readyz": {"get": _state("Whether a request would be taken now.", "ready")},
            "/metrics": {"get": _get("Numbers for Prometheus.", "text/plain")},
            "/openapi.json": {"get": _get("This document.", "application/json")},
        },
        "components": {
            "schemas": {"Found": _FOUND, "Result": _RESULT, "Error": _ERROR},
            **({"securitySchemes": schemes} if settings.keys else {}),
        },
    }


def _localize(settings: Settings, most: int) -> dict[str, Any]:
    """``POST /localize``, which takes so many classes."""
    limits, asked = settings.limits, _asked(most)
    whole: dict[str, Any] = {
        "image": {
            "type": "string",
            "contentEncoding": "base64",
            "description": "The image's file.",
        },
        **asked,
    }
    if settings.urls:
        whole["url"] = {"type": "string", "format": "uri"}
    sent = {"image": {"type": "string", "format": "binary"}, **asked}
    itself = {"schema": {"type": "string", "format": "binary"}}
    refusals = {
        status: {"description": text, "content": _json(_reference("Error"))}
        for status, text in _REFUSALS.items()
        if status != "401" or settings.keys
    }
    return {
        "summary": "Find the objects of classes in one image.",
        "description": f"Images of at most {limits.image_bytes / 1e6:g} MB and "
        f"{limits.pixels / 1e6:g} million pixels. An answer takes at most {limits.seconds:g} "
        "seconds.",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in asked.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "properties": sent}},
                "application/json": {"schema": {"type": "object", "properties": whole}},
                "application/octet-stream": itself,
                "image/*": itself,
            },
        },
        "responses": {
            "200": {"description": "Found.", "content": _json(_reference("Found"))},
            **refusals,
        },
        **({"security": [{"bearer": []}, {"header": []}]} if settings.keys else {}),
    }


def _asked(most: int) -> dict[str, Any]:
    """What can be asked for beside the image."""
    return {
        "top": {
            "type": "integer",
            "minimum": 1,
            "maximum": most,
            "default": 1,
            "description": "How many of the best classes.",
        },
        "class": {
            "type": "array",
            "items": {"type": ["integer", "string"]},
            "maxItems": most,
            "description": "These classes instead: indices, labels, or ranks (-1 is the best).",
        },
        "overlay": {"type": "boolean", "default": False, "description": "Return overlay_png."},
        "map": {"type": "boolean", "default": False, "description": "Return map_png."},
    }


def page(described: dict[str, Any]) -> str:
    """The document as a page that needs nothing else."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Backlit: the service</title>'
        '<link rel="stylesheet" href="page.css"></head><body><main class="text">'
        '<h1>The service</h1><p>The same for programs: <a href="openapi.json">openapi.json</a>. '
        '<a href=".">Try it</a> with a photo.</p>'
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['summary'])}</p>")
            if "description" in operation:
                parts.append(f"<p>{escape(operation['description'])}</p>")
            if "parameters" in operation:
                parts.append("<p>Send the image as a form's file <code>image</code>, as the body ")
                parts.append("itself, or as base64 in JSON. Beside it, or in the address:</p>")
            parts.append(_table([
                (one["name"], one["schema"]["description"])
                for one in operation.get("parameters", ())
            ]))  # fmt: skip
            answers = operation["responses"].items()
            parts.append(_table([(status, one["description"]) for status, one in answers]))
    for name, schema in described["components"]["schemas"].items():
        parts.append(f"<h2>{escape(name)}</h2>")
        fields = schema["properties"].items()
        parts.append(_table([(field, of.get("description", "")) for field, of in fields]))
    return "".join([*parts, "</main></body></html>"])


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th><code>{escape(name)}</code></th><td>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table>{cells}</table>" if rows else ""


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _get(summary: str, kind: str) -> dict[str, Any]:
    responses = {"200": {"description": "There.", "content": {kind: {}}}}
    return {"summary": summary, "responses": responses}


def _state(summary: str, word: str) -> dict[str, Any]:
    schema = {"type": "object", "required": [word], "properties": {word: {"type": "boolean"}}}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "Yes.", "content": _json(schema)},
            "503": {"description": "No.", "content": _json(schema)},
        },
    }
