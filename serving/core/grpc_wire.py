"""Where the tensors lie in a serialized ModelInferRequest.

protobuf's parser copies each `raw_input_contents` into its message, and whoever
reads it from there copies again. Here they become views of what was received,
and the parser gets the rest. Laws:
- what is split here is what the parser would take: fields 1 to 7 as bytes with a
  length, tag and length in their shortest form, none beyond the end. Everything
  else (other numbers and wire types, groups, long forms, a message cut off) is
  left to the parser, whole;
- the other fields keep their bytes and their order, so alone they mean what they
  mean in the whole message.
"""

_DELIMITED = 2  # wire type
_RAW_INPUT_CONTENTS = 7 << 3 | _DELIMITED
_TAGS = frozenset(number << 3 | _DELIMITED for number in range(1, 8))
_SHIFT_MAX = 28  # a length has 31 bits
FIELDS_MAX = 256  # more are faster parsed than found


def split_raw(data: bytes) -> tuple[bytes, list[memoryview]] | None:
    """The message without its `raw_input_contents`, and those as views of `data`, in order.

    None if there are none, or only the parser can tell what `data` is, or that it is nothing.
    """
    view, size = memoryview(data), len(data)
    rest: list[memoryview] = []
    raw: list[memoryview] = []
    at = kept = fields = 0  # before `kept` everything has its place
    while at < size:
        fields += 1
        if fields > FIELDS_MAX:
            return None
        start, tag = at, data[at]
        if tag not in _TAGS:
            return None
        at += 1
        length = shift = 0
        more = True
        while more:
            if at == size or shift > _SHIFT_MAX:
                return None
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            more = byte >= 0x80
        if byte == 0 and shift > 7:
            return None
        stop = at + length
        if stop > size:
            return None
        if tag == _RAW_INPUT_CONTENTS:
            rest.append(view[kept:start])
            raw.append(view[at:stop])
            kept = stop
        at = stop
    rest.append(view[kept:])
    return (b"".join(rest), raw) if raw else None
