"""Which numbers, addresses and names does the world use: only ranges that are set aside for documentation and fiction.

Numbers are longer than any real one where the set-aside range is too small, so that they can be nobody's.
"""

from random import Random

import msgspec

from pipeline.core.events import AsnKind, Attestation, PeerLine

BANK_NUMBER = "+447700900001"  # printed on the card
BANK_VOICE = "+447700900002"  # reads codes out
BANK_SENDER = "EXAMPLEBANK"  # over the bank's texts
OFFICES = 1000  # +447700900xxx, the range set aside for fiction, is kept for institutions
AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_2 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 Chrome/144.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 15; SM-A556B) AppleWebKit/537.36 Chrome/143.0.0.0 Mobile Safari/537.36",
    "ExampleBankApp/8.4.1 (iOS 19.2)",
    "ExampleBankApp/8.4.0 (Android 16)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/144.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:147.0) Gecko/20100101 Firefox/147.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
)
PHONE_AGENTS = 5  # the first so many belong to phones

HOSTING = range(64496, 64501)
PROXY = range(64501, 64506)
CORPORATE = range(64506, 64512)
RESIDENTIAL = range(65536, 65546)
MOBILE = range(65546, 65552)


class Network(msgspec.Struct, frozen=True, gc=False):
    asn: int
    kind: AsnKind
    country: str
    ip: str


class Device(msgspec.Struct, frozen=True, gc=False):
    device_id: str
    user_agent: str


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The other end of a call or text, as the customer's carrier sees it."""

    number: str | None
    line: PeerLine | None = None
    attestation: Attestation | None = None
    is_contact: bool = False
    is_bank: bool = False
    poses_as_bank: bool = False


BANK = Peer(BANK_NUMBER, "toll_free", "A", is_bank=True)
BANK_ROBOT = Peer(BANK_VOICE, "voip", "A", is_bank=True)


def customer_number(n: int, country: str) -> str:
    """Return the number of the n-th line, unlike any other's."""
    if country == "US":
        return f"+1555010{n:04d}" if n < 10_000 else f"+1555010{n:07d}"
    n += OFFICES
    return f"+4477009{n:05d}" if n < 100_000 else f"+4477009{n:07d}"


def stranger_number(rng: Random, country: str) -> str:
    """Return somebody's number; eight digits long, so that it is no customer's."""
    return f"+1555011{rng.randrange(10**8):08d}" if country == "US" else f"+4477009{rng.randrange(10**8):08d}"


def address(rng: Random, kind: AsnKind, asn: int) -> str:
    """Return an address for a network of this kind, from the documentation ranges."""
    if kind == "mobile":  # carriers share addresses among many
        return f"192.0.2.{rng.randrange(1, 255)}"
    if kind == "corporate":
        return f"203.0.113.{rng.randrange(1, 255)}"
    if kind in {"hosting", "proxy"} and rng.random() < 0.7:
        return f"198.51.100.{rng.randrange(1, 255)}"
    return f"2001:db8:{asn & 0xFFFF:x}:{rng.getrandbits(16):x}::{rng.getrandbits(12):x}"


def network(rng: Random, kind: AsnKind, country: str) -> Network:
    pool = {"hosting": HOSTING, "proxy": PROXY, "corporate": CORPORATE, "residential": RESIDENTIAL, "mobile": MOBILE}[kind]
    asn = pool[rng.randrange(len(pool))]
    return Network(asn, kind, country, address(rng, kind, asn))


def token(rng: Random, letter: str) -> str:
    return f"{letter}-{rng.getrandbits(48):012x}"


def device(rng: Random, *, phone: bool) -> Device:
    agent = AGENTS[rng.randrange(PHONE_AGENTS) if phone else rng.randrange(PHONE_AGENTS, len(AGENTS))]
    return Device(token(rng, "d"), agent)
