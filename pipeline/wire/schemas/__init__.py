"""What do our records look like to others? JSON Schemas and an AsyncAPI document, generated from the types, for every record we exchange.

``offhook schemas --write`` puts them into a folder, ``--check`` says which files there are stale.
"""

from functools import cache
from pathlib import Path

import orjson

from pipeline.wire.schemas.alert import alert_headers_schema, alert_schema
from pipeline.wire.schemas.asyncapi import asyncapi_document
from pipeline.wire.schemas.generated import JsonSchema, event_schemas, outcome_schemas, record_schemas
from pipeline.wire.schemas.plain import dead_letter_schema, log_record_schema

ASYNCAPI = "asyncapi.json"
_SUFFIX = ".schema.json"


@cache
def schemas() -> dict[str, JsonSchema]:
    """Build every JSON Schema, by file name (``login.schema.json``). Draft 2020-12; each stands alone."""
    named = {
        **record_schemas(),
        **event_schemas(),
        **outcome_schemas(),
        "alert": alert_schema(),
        "alert_headers": alert_headers_schema(),
        "dead_letter": dead_letter_schema(),
        "log_record": log_record_schema(),
    }
    return {name + _SUFFIX: named[name] for name in sorted(named)}


def files() -> dict[str, bytes]:
    """Build the content of every generated file, by name: the same bytes on every run."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    content = {name: orjson.dumps(schema, option=options) for name, schema in schemas().items()}
    return content | {ASYNCAPI: orjson.dumps(asyncapi_document(), option=options)}


def write(folder: Path | str) -> None:
    """Write the generated files into ``folder`` and remove schemas there that no record has any more; all else stays."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = files()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    for left in folder.glob("*" + _SUFFIX):
        if left.name not in content:
            left.unlink()


def stale(folder: Path | str) -> list[str]:
    """Name the files in ``folder`` that are missing, differ from what the types say, or describe nothing any more."""
    folder = Path(folder)
    content = files()
    wrong = {name for name, data in content.items() if not (folder / name).is_file() or (folder / name).read_bytes() != data}
    return sorted(wrong | {left.name for left in folder.glob("*" + _SUFFIX) if left.name not in content})
