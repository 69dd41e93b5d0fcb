"""Every shape of error that engines were seen to send becomes the one shape."""

import pytest

from meshtui.engines.answers import normalise_error

# Status, body as captured, then message, type, param and code as they must come out.
SHAPES = [
    (
        400,
        b'{"error":{"message":"max_tokens=99999 cannot be greater than max_model_len=8192. Please '
        b'request fewer output tokens. (parameter=max_tokens, value=99999)",'
        b'"type":"BadRequestError","param":"max_tokens","code":400}}',
        (
            "max_tokens=99999 cannot be greater than max_model_len=8192. Please request fewer "
            "output tokens. (parameter=max_tokens, value=99999)",
            "BadRequestError",
            "max_tokens",
            400,
        ),
    ),
    (
        400,
        b'{"error":{"message":"6 validation errors: ...","type":"Bad Request",'
        b'"param":"body.messages","code":400}}',
        ("6 validation errors: ...", "BadRequestError", "body.messages", 400),
    ),
    (
        404,
        b'{"error":{"message":"The model `nope` does not exist. Valid aliases: smol.",'
        b'"type":"NotFoundError","param":"model","code":404}}',
        ("The model `nope` does not exist. Valid aliases: smol.", "NotFoundError", "model", 404),
    ),
    (401, b'{"error":"Unauthorized"}', ("Unauthorized", "AuthenticationError", None, 401)),
    (404, b'{"detail":"Not Found"}', ("Not Found", "NotFoundError", None, 404)),
    (405, b'{"detail":"Method Not Allowed"}', ("Method Not Allowed", "BadRequestError", None, 405)),
    (
        422,
        b'{"detail":"Unexpected fields in the request: {\'top_k\'}"}',
        ("Unexpected fields in the request: {'top_k'}", "BadRequestError", None, 422),
    ),
    (
        422,
        b'{"detail":[{"type":"json_invalid","loc":["body",1],"msg":"JSON decode error","input":{},'
        b'"ctx":{"error":"Expecting property name enclosed in double quotes"}}]}',
        ("body.1: JSON decode error", "BadRequestError", None, 422),
    ),
    (
        422,
        b'{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary",'
        b'"input":[]}]}',
        ("body: Input should be a valid dictionary", "BadRequestError", None, 422),
    ),
    (500, b"Internal Server Error", ("Internal Server Error", "InternalServerError", None, 500)),
    (503, b"", ("HTTP status 503", "InternalServerError", None, 503)),
    (502, b"[]", ("HTTP status 502", "InternalServerError", None, 502)),
    (500, b"\xff\xfe\x1b[31mx", ("\ufffd\ufffdx", "InternalServerError", None, 500)),
]


@pytest.mark.parametrize(("status", "body", "expected"), SHAPES)
def test_error_shapes(status: int, body: bytes, expected: tuple[str, str, str | None, int]) -> None:
    error = normalise_error(status, body)
    assert list(error) == ["error"]
    inner = error["error"]
    assert (inner["message"], inner["type"], inner["param"], inner["code"]) == expected
