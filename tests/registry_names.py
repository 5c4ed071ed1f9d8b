"""Names that somebody might try to leave a folder with."""

HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "../../etc/passwd",
    "..\\x",
    "/etc/passwd",
    "//host/share",
    "x/../../y",
    "..%2fx",
    "%2e%2e%2fx",
    "%2f",
    "%00",
    "x\0",
    "\0",
    "x\0.onnx/../..",
    "x\n",
    "x\r\nSet-Cookie: a",
    "\x1b[31mx",
    " x",
    "x ",
    "\t",
    ".hidden",
    "-rf",
    "~root",
    "$(id)",
    "`id`",
    "x;ls",
    "x|y",
    "C:\\x",
    "file:///etc/passwd",
    "a" * 300,
    "é",
    "frаud",  # a Cyrillic a
    "ｆｒａｕｄ",  # full width
    "x\u202e",  # right-to-left override
    "x\u200b",  # zero-width space
    "．．／x",  # full-width dots and slash
    "\u2025/x",  # two dot leader
    "\u2215etc",  # division slash
    "\ud800",  # a lone surrogate
    "'; DROP TABLE versions; --",
]
