import pytest

from registry_client.core.pbtxt import DEPTH_MAX, Field, Message, PbtxtError, Word, parse_pbtxt


def values(text: str) -> list[tuple[str, object]]:
    return [(field.name, field.value) for field in parse_pbtxt(text).fields]


def test_scalars_of_every_kind_are_read() -> None:
    text = """
    name: "fraud"   # a comment
    max_batch_size: 8
    low: -3, high: 0x1F; octal: 017
    rate: 1.5e-3 half: .5f
    kind: KIND_CPU  flag: true
    nothing: -inf
    """
    assert values(text) == [
        ("name", "fraud"),
        ("max_batch_size", 8),
        ("low", -3),
        ("high", 31),
        ("octal", 15),
        ("rate", 0.0015),
        ("half", 0.5),
        ("kind", Word("KIND_CPU")),
        ("flag", Word("true")),
        ("nothing", Word("-inf")),
    ]


def test_strings_take_both_quotes_escapes_and_concatenation() -> None:
    assert values(r"""a: 'it''s' "\x41\102\n\"" """) == [("a", 'itsAB\n"')]
    assert values("a: '#not a comment'") == [("a", "#not a comment")]


def test_lists_give_one_field_per_element() -> None:
    assert values("dims: [ 1, -1, 3 ] dims: 4 none: []") == [
        ("dims", 1),
        ("dims", -1),
        ("dims", 3),
        ("dims", 4),
    ]


def test_messages_nest_with_and_without_a_colon_in_braces_or_angles() -> None:
    text = "a { b: { c < d: 1 > } } input [ { name: 'x' }, { name: 'y' } ]"
    c = Message((Field("d", 1, 1),))
    b = Message((Field("c", c, 1),))
    assert values(text) == [
        ("a", Message((Field("b", b, 1),))),
        ("input", Message((Field("name", "x", 1),))),
        ("input", Message((Field("name", "y", 1),))),
    ]


def test_lines_are_counted_through_comments() -> None:
    fields = parse_pbtxt("# one\n\na: 1\n# four\nb: 2").fields
    assert [(field.name, field.line) for field in fields] == [("a", 3), ("b", 5)]


def test_an_empty_text_is_an_empty_message() -> None:
    assert parse_pbtxt(" # nothing\n").fields == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", "line 1 column 2"),
        ("a: ", "line 1 column 4"),
        ("a 1", "line 1 column 3"),
        ("\n\na: }", "line 3 column 4"),
        ("a {", "line 1 column 4"),
        ("a: [1 2]", "line 1 column 7"),
        ("a: [1", "line 1 column 6"),
        ('a: "open\n"', "line 1 column 4"),
        ("a: 08", "line 1 column 4"),
        ("a: 1x", "line 1 column 4"),
        ("a: @", "line 1 column 4"),
        ("é: 1", "line 1 column 1"),
        (r"a: '\q'", "line 1"),
        ("[ext.name]: 1", "line 1 column 1"),
        ("a < b: 1 }", "line 1 column 10"),
        ("a: " + "9" * 5000, "line 1 column 4"),
    ],
)
def test_an_error_says_where(text: str, place: str) -> None:
    with pytest.raises(PbtxtError, match=place) as error:
        parse_pbtxt(text)
    assert "\n" not in str(error.value)


def test_depth_is_bounded() -> None:
    assert parse_pbtxt("a {" * DEPTH_MAX + "}" * DEPTH_MAX).fields
    with pytest.raises(PbtxtError, match="deeper"):
        parse_pbtxt("a {" * 100_000)
    with pytest.raises(PbtxtError, match="deeper"):
        parse_pbtxt("a: [{" * 1000)


def test_length_is_bounded() -> None:
    with pytest.raises(PbtxtError, match="limit"):
        parse_pbtxt("#" * (1024 * 1024 + 1))
