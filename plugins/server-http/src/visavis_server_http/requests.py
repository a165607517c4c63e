"""Reading requests strictly: a body of the right type, of JSON that fits a model."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse

from visavis_server_http.errors import ApiError

M = TypeVar("M", bound=BaseModel)


class Json(JSONResponse):
    """JSON in plain ASCII: whatever a client sent can be repeated to it."""

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def refusal(error: ApiError) -> Json:
    """An ApiError as a response."""
    return Json(error.body(), error.status, error.headers)


def content_type(request: Request) -> str:
    """The media type of the body, in lower case, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def allow_body(request: Request, most: int, *, streamed: bool = False) -> None:
    """Let this request's body be as long as that; ``streamed``: its time limit is one between two pieces."""
    allowance = request.scope.get("visavis.body")
    if allowance is not None:
        allowance.most, allowance.streamed = most, streamed


def check_length(request: Request, most: int) -> None:
    """Raise ApiError 413 for a body that says to be longer."""
    text = request.headers.get("content-length", "")
    if text.isdigit() and (len(text) > 19 or int(text) > most):
        raise too_long(most)


def too_long(most: int) -> ApiError:
    """413 BODY_TOO_LARGE."""
    return ApiError(413, "BODY_TOO_LARGE", f"the body is longer than {most} bytes", {"most": most})


async def read_json(request: Request, model: type[M]) -> M:
    """The body as a model.

    Raises ApiError: 415, 400 MALFORMED_JSON, 400 MISSING_PARAMETER or 422 INVALID_PARAMETER; 413 and 408 besides.
    """
    kind = content_type(request)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "send application/json", {"content_type": kind[:80]})
    return parsed(await request.body(), model)


def parsed(body: bytes, model: type[M]) -> M:
    """JSON as a model. Raises ApiError 400 or 422."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise misfit(error) from None


async def read_form(request: Request, model: type[M]) -> tuple[M, FormData]:
    """The fields of a form (multipart or urlencoded) as a model, and the form with its files; close it afterwards.

    Raises ApiError as :func:`read_json` does, with 400 MALFORMED_FORM.
    """
    if content_type(request) not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "send multipart/form-data", {})
    from starlette.exceptions import HTTPException

    try:
        form = await request.form(max_files=4, max_fields=64, max_part_size=256 * 1024)
    except HTTPException as error:
        raise ApiError(400, "MALFORMED_FORM", f"the form cannot be read: {error.detail}") from None
    except (ValueError, KeyError, AssertionError) as error:
        raise ApiError(400, "MALFORMED_FORM", f"the form cannot be read: {type(error).__name__}") from None
    fields = {key: value for key, value in form.items() if isinstance(value, str)}
    try:
        return model.model_validate(fields), form
    except ValidationError as error:
        await form.close()
        raise misfit(error) from None


def misfit(error: ValidationError) -> ApiError:
    """What a body that does not fit is told as. Values are not repeated: one may be a token."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return ApiError(
            400, "MALFORMED_JSON", "the body is not JSON: " + found[0]["msg"].removeprefix("Invalid JSON: ")
        )
    problems = [{"parameter": _place(item["loc"]), "problem": _said(item)} for item in found[:20]]
    first = problems[0]
    details = {"parameter": first["parameter"], "problems": problems}
    lacking = [p for p, item in zip(problems, found, strict=False) if item["type"] == "missing"]
    if lacking:
        details["parameter"] = lacking[0]["parameter"]
        return ApiError(400, "MISSING_PARAMETER", f"{lacking[0]['parameter']} is missing", details)
    return ApiError(422, "INVALID_PARAMETER", f"{first['parameter']}: {first['problem']}", details)


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(step)[:64] for step in loc) or "body"


def _said(item: Any) -> str:
    text = str(item["msg"]).removeprefix("Value error, ")
    return "there is no such option" if item["type"] == "extra_forbidden" else text
