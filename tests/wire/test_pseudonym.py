"""Do pseudonyms tell the same number from another, and nobody the number or the key?"""

import base64
import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire.pseudonym import Pseudonyms, normal_name

SECRET = bytes(range(7, 39))
OTHER = bytes(range(100, 140))
PHONE = "+447700900123"
TOKEN = re.compile(r"k[0-9]:[A-Za-z0-9_-]{22}")


@pytest.fixture(scope="module")
def one() -> Pseudonyms:
    return Pseudonyms({"k1": SECRET}, "k1", ("k1",))


def test_a_token_is_the_key_name_and_22_characters(one: Pseudonyms) -> None:
    assert TOKEN.fullmatch(one.line(PHONE))
    assert all(TOKEN.fullmatch(token) for token in one.peer(PHONE))


def test_tokens_do_not_change_between_versions(one: Pseudonyms) -> None:
    """Profiles of 90 days are keyed by them: computed with `openssl dgst -sha256 -mac hmac`, not with this code."""
    assert one.line(PHONE) == "k1:TjNby-Edyv6oqxKQYWN6KQ"
    assert one.peer(PHONE) == ("k1:29b9nSWZ1JJHm67qAhOCNg",)


def test_a_line_and_a_peer_of_one_number_do_not_meet(one: Pseudonyms) -> None:
    assert one.line(PHONE) not in one.peer(PHONE)


@pytest.mark.parametrize(
    "spelling",
    [
        "+44 7700 900123",
        "+44-7700-900-123",
        " +44 (7700) 900.123 ",
        "+44\u00a07700\u2011900123",
        "\u202a+447700900123\u202c",
        "＋447700900123",
    ],
)
def test_a_number_has_one_token_however_it_is_written(one: Pseudonyms, spelling: str) -> None:
    assert one.peer(spelling) == one.peer(PHONE)


@pytest.mark.parametrize("spelling", ["mybank", " MYBANK ", "MyBank\u200b", "ＭｙＢａｎｋ"])
def test_a_name_has_one_token_whatever_its_case(one: Pseudonyms, spelling: str) -> None:
    assert one.peer(spelling) == one.peer("MyBank")


@pytest.mark.parametrize(
    ("a", "b"), [("+447700900123", "447700900123"), ("My Bank", "MyBank"), ("12345", "1234"), ("BANK1", "BANK"), ("Bank-1", "Bank 1")]
)
def test_different_ones_stay_different(one: Pseudonyms, a: str, b: str) -> None:
    assert one.peer(a) != one.peer(b)


def test_blanks_name_nobody(one: Pseudonyms) -> None:
    assert one.peer("  \u200b ") == ()


@given(st.text(max_size=64))
def test_every_text_gets_a_token_or_none(one: Pseudonyms, text: str) -> None:
    tokens = one.peer(text)
    assert len(tokens) == (1 if text and normal_name(text) else 0)
    assert all(TOKEN.fullmatch(token) for token in tokens)


def test_keys_rotate_newest_first_and_the_line_stays() -> None:
    both = Pseudonyms({"k1": SECRET, "k2": OTHER}, "k1", ("k2", "k1"))
    before = Pseudonyms({"k1": SECRET}, "k1", ("k1",))
    after = Pseudonyms({"k1": SECRET, "k2": OTHER}, "k1", ("k2",))
    assert both.peer(PHONE) == after.peer(PHONE) + before.peer(PHONE)
    assert both.line(PHONE) == before.line(PHONE) == after.line(PHONE)
    assert both.opaque("ip", "192.0.2.1").startswith("k2:")


def test_kinds_do_not_meet(one: Pseudonyms) -> None:
    tokens = {one.opaque("ip", "1"), one.opaque("device", "1"), one.line("1"), *one.peer("1")}
    assert len(tokens) == 4


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        SECRET.hex().upper() + "\n",
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
        f"# ours\n\nk1 = {SECRET.hex()}\n",
        f"k1={base64.b64encode(SECRET).decode()}",
        f"k1 = {SECRET.hex()}\nk2 = {OTHER.hex()}\nrouting = k1\n",
        f"routing = k1\npeers = k1\nk2 = {OTHER.hex()}\nk1 = {SECRET.hex()}",
    ],
)
def test_a_key_file_may_be_written_in_many_ways(one: Pseudonyms, text: str) -> None:
    read = Pseudonyms.from_text(text)
    assert (read.line(PHONE), read.peer(PHONE)) == (one.line(PHONE), one.peer(PHONE))


def test_a_key_file_names_the_keys_of_a_rotation() -> None:
    read = Pseudonyms.from_text(f"k1 = {SECRET.hex()}\nk2 = {OTHER.hex()}\nrouting = k1\npeers = k2, k1\n")
    assert (read.routing, read.peers) == ("k1", ("k2", "k1"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        SECRET.hex()[:-2],
        SECRET.hex()[:-1],
        f"k1 = {SECRET.hex()[:-2]}",
        f"k1 = {SECRET.hex()}!",
        f"k1 {SECRET.hex()}",
        f"k1 = {SECRET.hex()}\nk1 = {OTHER.hex()}",
        f"k1 = {SECRET.hex()}\nk2 = {OTHER.hex()}",
        f"k1 = {SECRET.hex()}\nrouting = k3",
        f"k1 = {SECRET.hex()}\npeers = k3",
        f"k1 = {SECRET.hex()}\npeers = k1, k1",
        f"k0 = {SECRET.hex()}",
        f"K 1 = {SECRET.hex()}",
        f"{SECRET.hex()} = k1",
        f"k1 = {SECRET.hex()}\n{OTHER.hex()}",
    ],
)
def test_a_bad_key_file_is_refused_without_its_secret(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        Pseudonyms.from_text(text)
    said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    for secret in (SECRET.hex(), OTHER.hex()):
        assert secret[:10] not in said


@pytest.mark.parametrize(
    ("keys", "routing", "peers"),
    [
        ({"k1": SECRET[:31]}, "k1", ("k1",)),
        ({"k1": SECRET}, "k2", ("k1",)),
        ({"k1": SECRET}, "k1", ("k2",)),
        ({"k1": SECRET}, "k1", ()),
        ({"k1": SECRET, "k2": SECRET, "k3": SECRET}, "k1", ("k1", "k2", "k3")),
        ({"k:1": SECRET}, "k:1", ("k:1",)),
    ],
)
def test_keys_that_cannot_serve_are_refused(keys: dict[str, bytes], routing: str, peers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="key"):
        Pseudonyms(keys, routing, peers)


def test_the_key_never_shows(one: Pseudonyms) -> None:
    one.line(PHONE)
    shown = f"{one!r} {one} {vars(one)}"
    assert repr(SECRET)[2:12] not in shown
    assert SECRET.hex()[:10] not in shown
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never written"):
            write(one)


def test_the_demo_key_says_so() -> None:
    demo = Pseudonyms.for_demo()
    assert demo.line(PHONE).startswith("k0:")
    assert demo.line(PHONE) == Pseudonyms.for_demo().line(PHONE)
    assert demo.line(PHONE) != Pseudonyms.for_demo(1).line(PHONE)
