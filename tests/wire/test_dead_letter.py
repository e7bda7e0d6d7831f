"""Does a dead letter say where the record stands and why, and keep of the original what it may and no more?"""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import REFUSALS, Refusal
from pipeline.wire.codec import OutRecord
from pipeline.wire.dead_letter import LARGEST_BYTES, DeadLetter, DeadLetters, Form, new_key_pair, parse, unseal

KEYS = new_key_pair()
VALUE = b'{"phone": "+447700900123"}'
KEY = b"+447700900123"
HEADERS = (("trace", b"abc"), ("trace", b"\xff"), ("offhook.error.reason", b"late"))

some_bytes = st.none() | st.binary(max_size=50)
some_headers = st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=10)), max_size=3).map(tuple)


def write(form: Form, key: bytes | None = KEY, value: bytes | None = VALUE, largest: int = LARGEST_BYTES) -> OutRecord:
    letters = DeadLetters(form, KEYS.public if form == "sealed" else None, largest)
    return letters.record("telephony", 3, 42, 1_795_342_543_120, "invalid_field", "phone is missing", key, value, HEADERS)


def read(record: OutRecord) -> DeadLetter:
    return parse(record.headers, record.key, record.value)


@pytest.mark.parametrize("form", ["reference", "sealed", "plain"])
def test_headers_say_where_and_why(form: Form) -> None:
    record = write(form)
    assert record.topic == "dead-letters"
    assert dict(record.headers[:10]) == {
        "offhook.error.topic": b"telephony",
        "offhook.error.partition": b"3",
        "offhook.error.offset": b"42",
        "offhook.error.timestamp": b"1795342543120",
        "offhook.error.reason": b"invalid_field",
        "offhook.error.detail": b"phone is missing",
        "offhook.error.length": b"26",
        "offhook.error.sha256": sha256(VALUE).hexdigest().encode(),
        "offhook.error.version": b"1",
        "offhook.error.form": form.encode(),
    }
    letter = read(record)
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp) == ("telephony", 3, 42, 1_795_342_543_120)
    assert (letter.reason, letter.detail, letter.length) == ("invalid_field", "phone is missing", 26)


def test_a_reference_keeps_nothing_of_the_original() -> None:
    record = write("reference")
    assert (record.key, record.value, len(record.headers)) == (None, None, 10)
    letter = read(record)
    assert (letter.key, letter.value, letter.headers, letter.sealed) == (None, None, (), None)


def test_a_plain_letter_keeps_the_original() -> None:
    letter = read(write("plain"))
    assert (letter.key, letter.value, letter.headers) == (KEY, VALUE, HEADERS)


def test_a_sealed_letter_shows_nothing_and_opens_with_the_private_key() -> None:
    record = write("sealed")
    assert record.key is None
    assert len(record.headers) == 10
    assert record.value is not None
    assert b"77009" not in record.value
    letter = read(record)
    assert (letter.key, letter.value, letter.headers) == (None, None, ())
    opened = unseal(letter, KEYS.private)
    assert (opened.key, opened.value, opened.headers) == (KEY, VALUE, HEADERS)
    assert write("sealed").value != record.value


@given(st.sampled_from(["plain", "sealed"]), some_bytes, some_bytes, some_headers, st.text(), st.sampled_from(REFUSALS))
def test_every_original_comes_back(
    form: Form, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...], detail: str, reason: Refusal
) -> None:
    letters = DeadLetters(form, KEYS.public)
    letter = read(letters.record("logins", 0, 0, -1, reason, detail, key, value, headers))
    if form == "sealed":
        letter = unseal(letter, KEYS.private)
    assert (letter.key, letter.value, letter.headers, letter.reason) == (key, value, headers, reason)
    assert (letter.length, letter.sha256) == ((None, None) if value is None else (len(value), sha256(value).hexdigest()))


@pytest.mark.parametrize("form", ["plain", "sealed"])
def test_five_megabytes_come_back(form: Form) -> None:
    large = bytes(range(256)) * 20_000
    letter = read(write(form, None, large, largest=6_000_000))
    if form == "sealed":
        letter = unseal(letter, KEYS.private)
    assert letter.value == large
    assert letter.key is None


@pytest.mark.parametrize("form", ["plain", "sealed"])
def test_what_the_broker_would_not_take_is_kept_as_a_reference(form: Form) -> None:
    letter = read(write(form, KEY, b"x" * LARGEST_BYTES))
    assert (letter.form, letter.value, letter.sealed, letter.length) == ("reference", None, None, LARGEST_BYTES)


def test_a_header_without_value_becomes_an_empty_one() -> None:
    record = DeadLetters("plain").record("logins", 0, 0, 0, "bug", "", None, None, (("a", None),))
    assert read(record).headers == (("a", b""),)


@given(st.text(max_size=1000))
def test_a_detail_is_one_line_of_at_most_200_characters(detail: str) -> None:
    said = read(DeadLetters("reference").record("logins", 0, 0, 0, "bug", detail, None, None)).detail
    assert len(said) <= 200
    assert said.isprintable()
    if detail.isprintable() and len(detail) <= 200:
        assert said == detail


@pytest.mark.parametrize(("form", "key"), [("sealed", None), ("sealed", b"short"), ("other", None)])
def test_a_form_that_cannot_be_is_refused(form: Form, key: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"public key|reference, sealed or plain"):
        DeadLetters(form, key)


def test_another_key_a_damaged_letter_and_an_open_one_do_not_open() -> None:
    letter = read(write("sealed"))
    assert letter.sealed is not None
    damaged = msgspec.structs.replace(letter, sealed=letter.sealed[:-1] + bytes([letter.sealed[-1] ^ 1]))
    for bad, private, rule in (
        (letter, new_key_pair().private, "another key"),
        (damaged, KEYS.private, "damaged"),
        (read(write("plain")), KEYS.private, "not sealed"),
        (letter, b"short", "32 bytes"),
    ):
        with pytest.raises(ValueError, match=rule):
            unseal(bad, private)


def test_records_that_are_no_dead_letters_are_refused() -> None:
    headers = write("reference").headers
    newer = tuple((name, b"2" if name.endswith("version") else text) for name, text in headers)
    unknown = tuple((name, b"?" if name.endswith("reason") else text) for name, text in headers)
    for bad, rule in ((headers[1:], "not a dead letter"), ((), "not a dead letter"), (newer, "version 2"), (unknown, "unknown reason")):
        with pytest.raises(ValueError, match=rule):
            parse(bad, None, None)


def test_the_private_key_does_not_show() -> None:
    assert KEYS.private.hex() not in repr(KEYS)
    assert repr(KEYS.private)[2:-1] not in repr(KEYS)
