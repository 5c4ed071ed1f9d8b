"""Protocol buffers text format, as far as config.pbtxt files use it.

Text in, a tree of fields in their order out; no schema. Understood: comments,
scalars, strings of both quotes with escapes and concatenation, nested messages
in `{}` or `<>`, lists in `[]`, optional `:`, `,` and `;`. Left out: extension
and Any names in brackets, which model configurations do not have.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from registry_client.core.errors import Invalid
from registry_client.core.names import shown

TEXT_CHARS_MAX = 1024 * 1024  # real ones are a few hundred bytes
DEPTH_MAX = 32  # a model configuration nests five deep


class PbtxtError(Invalid):
    """The text is not text format; the message names line and column."""


@dataclass(frozen=True, slots=True)
class Word:
    """An identifier used as a value: an enum constant, `true`, `inf`."""

    text: str


Scalar = str | int | float | Word


@dataclass(frozen=True, slots=True)
class Field:
    """One `name: value` of a message; a list yields one field per element."""

    name: str
    value: "Scalar | Message"
    line: int


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a message, in the order of the text."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word | number | string | mark | end
    text: str
    line: int
    column: int


_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+
        |(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)(?![A-Za-z0-9_.]))
  | (?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
  | (?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
  | (?P<mark>[{}<>\[\]:,;])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"?])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.?))", re.DOTALL)
_PLAIN_ESCAPES = dict(zip("abfnrtv\\'\"?", "\a\b\f\n\r\t\v\\'\"?", strict=True))
_CLOSERS = {"{": "}", "<": ">"}


def parse_pbtxt(text: str) -> Message:
    """Parse a whole file. Raises PbtxtError, and nothing else, for any other text."""
    if len(text) > TEXT_CHARS_MAX:
        raise PbtxtError(f"text of {len(text)} characters is over the limit of {TEXT_CHARS_MAX}")
    return _Parser(text).whole()


def _tokens(text: str) -> Iterator[_Token]:
    position, line, line_start = 0, 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        column = position - line_start + 1
        if match is None:
            raise PbtxtError(
                f"line {line} column {column}: unexpected {shown(text[position : position + 1])}"
            )
        kind, token = str(match.lastgroup), match.group()
        if kind != "space":
            yield _Token(kind, token, line, column)
        newlines = token.count("\n")
        if newlines:
            line += newlines
            line_start = position + token.rindex("\n") + 1
        position = match.end()
    yield _Token("end", "the end of the text", line, position - line_start + 1)


class _Parser:
    """Recursive descent with one token of look-ahead and a bound on depth."""

    def __init__(self, text: str) -> None:
        self._source = _tokens(text)
        self._next = next(self._source)

    def whole(self) -> Message:
        fields = self._fields("end", depth=0)
        return Message(tuple(fields))

    def _take(self) -> _Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._source)
        return token

    def _is_mark(self, marks: str) -> bool:
        return self._next.kind == "mark" and self._next.text in marks

    def _unexpected(self, wanted: str) -> PbtxtError:
        token = self._next
        return PbtxtError(
            f"line {token.line} column {token.column}: expected {wanted}, got {shown(token.text)}"
        )

    def _fields(self, closer: str, depth: int) -> list[Field]:
        if depth > DEPTH_MAX:
            raise PbtxtError(f"line {self._next.line}: nested deeper than {DEPTH_MAX}")
        fields: list[Field] = []
        while not self._at(closer):
            fields.extend(self._field(depth))
            if self._is_mark(",;"):
                self._take()
        return fields

    def _at(self, closer: str) -> bool:
        return self._next.kind == "end" if closer == "end" else self._is_mark(closer)

    def _field(self, depth: int) -> list[Field]:
        if self._next.kind != "word" or self._next.text.startswith("-"):
            raise self._unexpected("a field name")
        name = self._take()
        has_colon = self._is_mark(":")
        if has_colon:
            self._take()
        if self._is_mark("["):
            return [Field(name.text, value, line) for value, line in self._list(depth)]
        if not has_colon and not self._is_mark("{<"):
            raise self._unexpected(f"':' or '{{' after {name.text[:64]}")
        return [Field(name.text, self._value(depth), name.line)]

    def _list(self, depth: int) -> list[tuple["Scalar | Message", int]]:
        self._take()
        values: list[tuple[Scalar | Message, int]] = []
        while not self._is_mark("]"):
            line = self._next.line
            values.append((self._value(depth), line))
            if self._is_mark(","):
                self._take()
            elif not self._is_mark("]"):
                raise self._unexpected("',' or ']'")
        self._take()
        return values

    def _value(self, depth: int) -> "Scalar | Message":
        if self._is_mark("{<"):
            closer = _CLOSERS[self._take().text]
            fields = self._fields(closer, depth + 1)
            self._take()
            return Message(tuple(fields))
        if self._next.kind == "string":
            return self._string()
        if self._next.kind == "number":
            return self._number()
        if self._next.kind == "word":
            return Word(self._take().text)
        raise self._unexpected("a value")

    def _string(self) -> str:
        parts: list[str] = []
        while self._next.kind == "string":
            token = self._take()
            parts.append(_unquote(token))
        return "".join(parts)

    def _number(self) -> int | float:
        token = self._take()
        digits = token.text.lstrip("+-")
        sign = -1 if token.text.startswith("-") else 1
        try:
            if digits[:2] in ("0x", "0X"):
                return sign * int(digits, 16)
            if digits.isdigit():
                return sign * int(digits, 8 if digits.startswith("0") else 10)
            return sign * float(digits.rstrip("fF"))
        except ValueError as exc:
            raise PbtxtError(
                f"line {token.line} column {token.column}: {shown(token.text)} is not a number"
            ) from exc


def _unquote(token: _Token) -> str:
    def character(match: re.Match[str]) -> str:
        plain, octal, hexadecimal, _ = match.groups()
        if plain:
            return _PLAIN_ESCAPES[plain]
        if octal or hexadecimal:
            return chr(int(octal, 8) if octal else int(hexadecimal, 16))
        raise PbtxtError(f"line {token.line}: unknown escape {shown(match.group())}")

    return _ESCAPE.sub(character, token.text[1:-1])
