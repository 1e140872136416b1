"""A form with one file, which is written as it comes (multipart/form-data, RFC 7578)."""

import re
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from service.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_FILE = "file"
_MOST_FIELDS = 8
_MOST_FIELD_BYTES = 1024
_MOST_NAME = 255
_MOST_TYPE = 256
"""Characters of a form's Content-Type, whose parsing takes 0.1 s for 60,000 semicolons."""


class Form:
    """Parser of a form's bytes: `file` gets the content of the field `file`.

    `too_large` is raised where this has more than `max_bytes`. Blocks while it writes. Raises
    InvalidRequest for any other form.
    """

    def __init__(
        self, boundary: bytes, file: BinaryIO, max_bytes: int, too_large: PayloadTooLarge
    ) -> None:
        self.name: str | None = None
        self.size = 0
        self.fields: dict[str, str] = {}
        self.complete = False
        self._file = file
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._header = self._value = b""
        self._headers: dict[str, str] = {}
        self._field: str | None = None
        self._held = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take a part of the form."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            message = f"body: not valid multipart/form-data: {error}"
            raise InvalidRequest(message, code="invalid_multipart") from None

    def check(self) -> None:
        """Raise InvalidRequest unless the form is complete and has a file."""
        if not self.complete:
            raise InvalidRequest(
                "body: the form's last boundary is missing", code="invalid_multipart"
            )
        if self.name is None:
            raise InvalidRequest("file: required, a part with a filename", param=_FILE)

    def _begin_part(self) -> None:
        self._headers, self._held, self._field = {}, bytearray(), None

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._field = _text(options.get(b"name", b""))
        if self._field != _FILE:
            if len(self.fields) == _MOST_FIELDS:
                raise InvalidRequest(f"body: at most {_MOST_FIELDS} fields beside the file")
            return
        if self.name is not None:
            raise InvalidRequest("file: exactly one, got another", param=_FILE)
        # Without folders (RFC 7578, 4.2): who fetches the file again may save it under its name.
        if not (name := re.split(r"[/\\]", _text(options.get(b"filename", b"")))[-1]):
            raise InvalidRequest("file: required, a part with a filename", param=_FILE)
        self.name = name[:_MOST_NAME]

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == _FILE:
            self.size += end - start
            if self.size > self._max_bytes:
                raise self._too_large
            self._file.write(memoryview(data)[start:end])
            return
        self._held += data[start:end]
        if len(self._held) > _MOST_FIELD_BYTES:
            raise InvalidRequest(
                f"body: a field may have at most {_MOST_FIELD_BYTES} bytes, got more"
            )

    def _end_part(self) -> None:
        if self._field is not None and self._field != _FILE:
            self.fields[self._field] = _text(bytes(self._held))

    def _end(self) -> None:
        self.complete = True


def boundary_of(headers: Headers) -> bytes:
    """The boundary that a form's parts are divided by; UnsupportedMediaType for no form."""
    given = headers.get("content-type", "")
    kind, options = parse_options_header(given if len(given) <= _MOST_TYPE else "")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise UnsupportedMediaType("Content-Type: must be multipart/form-data with a boundary")
    return boundary


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")
