"""Where are the brokers, the keys and the files? Settings from ``OFFHOOK_*`` environment variables, parsed once at the command line.

A setting may not change a decision; what may is in ``core.policy``, whose file is named here. ``SETTINGS`` lists every variable with
its meaning and default; ``--help`` and the README are made from it.
"""

import base64
import binascii
import difflib
import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from pipeline.core.policy import Policy, policy_from

ENV_PREFIX: Final = "OFFHOOK_"
_TESTS_ONLY: Final = frozenset({"OFFHOOK_REQUIRE_BROKER"})  # read by tests/conftest.py
# Kubernetes writes these into every pod beside a Service named offhook...; they are nobody's setting.
_SERVICE_LINK: Final = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)=.*"
    r"|\w+_PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
    r"|\w+_PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*"
)


class SettingsError(ValueError):
    """A setting is wrong; the message names the variable and says what to do."""


class Secret:
    """A text that never shows itself in a repr, a log or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


Port = Annotated[int, Meta(ge=0, le=65535)]
TopicPrefix = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are. Each field is the variable ``OFFHOOK_<FIELD>``; an empty variable counts as unset."""

    brokers: Annotated[str, Meta(description="Kafka brokers, host:port, comma separated")] = "127.0.0.1:9092"
    prefix: Annotated[TopicPrefix, Meta(description="put before every topic name and consumer group")] = ""
    security: Annotated[
        Literal["plaintext", "ssl", "sasl_ssl", "sasl_plaintext"], Meta(description="how connections to the brokers are protected")
    ] = "plaintext"
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="SASL mechanism")] = "SCRAM-SHA-512"
    sasl_user: Annotated[str, Meta(description="SASL user")] = ""
    sasl_password: Annotated[Secret | None, Meta(description="SASL password; better the file")] = None
    sasl_password_file: Annotated[str, Meta(description="file that holds the SASL password")] = ""
    allow_insecure_sasl: Annotated[bool, Meta(description="allow SASL without TLS, which sends the password readable with PLAIN")] = False
    ssl_ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the brokers; empty: the system's")] = ""
    ssl_cert_file: Annotated[str, Meta(description="PEM file of the client certificate, for mutual TLS")] = ""
    ssl_key_file: Annotated[str, Meta(description="PEM file of the client certificate's key")] = ""
    ssl_key_password: Annotated[Secret | None, Meta(description="password of the client key, if it has one")] = None
    pseudonym_key_file: Annotated[str, Meta(description="file of the keys that make pseudonyms of phone numbers: guard it")] = ""
    pseudonym_key: Annotated[Secret | None, Meta(description="the keys themselves; better the file")] = None
    model_key_file: Annotated[
        str, Meta(description="file of the key that signs learned models, for the stage learn alone: guard it (`offhook models keygen`)")
    ] = ""
    model_public_key_file: Annotated[str, Meta(description="file of the public key that learned models are checked with")] = ""
    policy_file: Annotated[str, Meta(description="TOML file that overrides the policy; empty: the policy in the code")] = ""
    dead_letters: Annotated[
        Literal["reference", "sealed", "plain"],
        Meta(description="what a dead letter keeps of the record: where it stands, a copy sealed to a public key, or a plain copy"),
    ] = "reference"
    dead_letters_public_key_file: Annotated[str, Meta(description="X25519 public key, base64 or hex, for sealed dead letters")] = ""
    trust_create_time: Annotated[bool, Meta(description="accept raw topics whose timestamps the producers set")] = False
    instance_id: Annotated[
        str, Meta(description="name of this worker that survives its restart (static membership); empty: a new member each time")
    ] = ""
    session_timeout_s: Annotated[
        int, Meta(ge=6, le=1800, description="seconds after which the brokers give a silent worker's partitions to others")
    ] = 15
    http_host: Annotated[str, Meta(description="address the health and metrics listener binds to")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="port of the health and metrics listener; 0: any free one")] = 9464
    cached_accounts: Annotated[int, Meta(ge=1, le=100_000_000, description="decoded accounts kept per process, for speed")] = 30_000
    store: Annotated[Literal["memory", "disk"], Meta(description="where accounts are kept that are not in use")] = "memory"
    start_without_state: Annotated[
        bool, Meta(description="start although the state of what was read is gone; every account begins anew")
    ] = False
    fetch_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 30, description="bytes fetched ahead; of a partition 1 MiB at least")] = 32 << 20
    batch_records: Annotated[int, Meta(ge=1, le=1_000_000, description="most records fetched, and handled as one batch, at once")] = 20_000
    record_bytes: Annotated[int, Meta(ge=1024, le=1 << 26, description="a larger input record is a dead letter")] = 1 << 20
    data_dir: Annotated[str, Meta(description="directory for the store on disk; empty: the system's temporary one")] = ""
    audit_share: Annotated[float, Meta(gt=0, le=1, description="share of the accounts that a worker of the stage audit folds again")] = 0.01
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level that is logged")] = "info"
    json_logs: Annotated[bool, Meta(description="log one JSON object per line; false: text for people")] = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings. Raises SettingsError naming the variable for an unknown, malformed or contradictory one."""
        types = {f.name: f.type for f in msgspec.structs.fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in sorted(environ.items()):
            if not variable.startswith(ENV_PREFIX) or variable in _TESTS_ONLY:
                continue
            name = variable.removeprefix(ENV_PREFIX).lower()
            if name not in types or variable != variable_of(name):
                if _SERVICE_LINK.fullmatch(f"{variable}={text}"):
                    continue
                raise SettingsError(_unknown(variable))
            if not text.strip():
                continue
            try:
                values[name] = msgspec.convert(text.strip(), types[name], strict=False, dec_hook=_secret)
            except msgspec.ValidationError as e:
                raise SettingsError(f"{variable}: {_plainly(str(e), types[name])}") from None
        settings = cls(**values)
        settings._refuse_contradictions()
        return settings

    @property
    def bootstrap(self) -> list[str]:
        """The brokers, one ``host:port`` each."""
        return [b.strip() for b in self.brokers.split(",") if b.strip()]

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security in ("ssl", "sasl_ssl")

    @property
    def sasl(self) -> bool:
        """Whether connections log in with a user and a password."""
        return self.security.startswith("sasl")

    def topic(self, name: str) -> str:
        """Return the name of one of our topics on the brokers."""
        return self.prefix + name

    def ssl_context(self) -> ssl.SSLContext | None:
        """Build the TLS context (certificates and host names are always checked), or None without TLS."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_file or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.ssl_cert_file:
                password = self.ssl_key_password.reveal() if self.ssl_key_password else ""  # a string, or OpenSSL asks at the terminal
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file or None, password)
        except (ssl.SSLError, OSError) as e:
            raise SettingsError(
                f"{_names('ssl_ca_file', 'ssl_cert_file', 'ssl_key_file', 'ssl_key_password')}: cannot be loaded ({type(e).__name__})"
            ) from None
        return context

    def password(self) -> str:
        """Return the SASL password, from the file or the variable."""
        if self.sasl_password is not None:
            return self.sasl_password.reveal()
        return self._text_of("sasl_password_file").rstrip("\r\n")

    def connection(self) -> dict[str, Any]:
        """Build what every client of aiokafka and of kafka-python takes to connect."""
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security.upper()}
        if self.tls:
            options["ssl_context"] = self.ssl_context()
        if self.sasl:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_user,
                "sasl_plain_password": self.password(),
            }
        return options

    def pseudonym_text(self) -> str:
        """Return the text of the pseudonym keys, for ``Pseudonyms.from_text``. Raises SettingsError when there are none."""
        if self.pseudonym_key is not None:
            return self.pseudonym_key.reveal()
        if not self.pseudonym_key_file:
            raise SettingsError(
                f"{variable_of('pseudonym_key_file')}: name the file that holds the key of the pseudonyms (32 random bytes)"
            )
        return self._text_of("pseudonym_key_file")

    def policy(self) -> Policy:
        """Read the policy. Raises SettingsError with the path of the field that is wrong."""
        if not self.policy_file:
            return Policy()
        try:
            return policy_from(tomllib.loads(self._text_of("policy_file")))
        except (tomllib.TOMLDecodeError, ValueError) as e:
            raise SettingsError(f"{variable_of('policy_file')}: {e}") from None

    def dead_letters_public_key(self) -> bytes | None:
        """Return the 32 bytes of the public key that dead letters are sealed to, or None when they are not sealed."""
        if self.dead_letters != "sealed":
            return None
        return key_bytes(self._text_of("dead_letters_public_key_file"), variable_of("dead_letters_public_key_file"))

    def model_key(self, field: Literal["model_key_file", "model_public_key_file"] = "model_key_file") -> bytes:
        """Return the 32 bytes of the key that signs models, or of the public one. Raises SettingsError when there is none."""
        if not getattr(self, field):
            raise SettingsError(f"{variable_of(field)}: name the file that holds the key of the models (`offhook models keygen`)")
        return key_bytes(self._text_of(field), variable_of(field))

    def model_public_key(self) -> bytes:
        """Return the 32 bytes of the public key that models are checked with. Raises SettingsError when there is none."""
        return self.model_key("model_public_key_file")

    def _text_of(self, field: str) -> str:
        path = Path(getattr(self, field))
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"{variable_of(field)}: {path} cannot be read ({type(e).__name__})") from None

    def _refuse_contradictions(self) -> None:
        def refuse(message: str, *fields: str) -> None:
            raise SettingsError(f"{_names(*fields)}: {message}")

        if not self.bootstrap or not all(re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^\s:/]+):\d{1,5}", b) for b in self.bootstrap):
            refuse("write host:port, several separated by commas", "brokers")
        for first, second in (("sasl_password", "sasl_password_file"), ("pseudonym_key", "pseudonym_key_file")):
            if getattr(self, first) and getattr(self, second):
                refuse("both are set; unset one", first, second)
        if self.security == "sasl_plaintext" and not self.allow_insecure_sasl:
            refuse(
                "sasl_plaintext sends credentials over an open connection; use sasl_ssl, or set "
                f"{variable_of('allow_insecure_sasl')}=true where the network is yours alone",
                "security",
            )
        has_password = bool(self.sasl_password or self.sasl_password_file)
        if self.sasl and not (self.sasl_user and has_password):
            refuse(f"{self.security} needs a user and a password", "sasl_user", "sasl_password_file")
        if not self.sasl and (self.sasl_user or has_password):
            refuse(f"a user or password is set, but {variable_of('security')}={self.security} uses none; use sasl_ssl", "security")
        if not self.tls and (self.ssl_ca_file or self.ssl_cert_file or self.ssl_key_file):
            refuse(f"certificates are set, but {variable_of('security')}={self.security} uses none; use ssl or sasl_ssl", "security")
        if self.ssl_key_file and not self.ssl_cert_file:
            refuse("a key without its certificate; set both", "ssl_cert_file")
        if self.dead_letters == "sealed" and not self.dead_letters_public_key_file:
            refuse("sealed dead letters need the public key", "dead_letters_public_key_file")
        for f in msgspec.structs.fields(type(self)):
            if f.name.endswith("_file") and getattr(self, f.name) and not os.access(getattr(self, f.name), os.R_OK):
                refuse(f"{getattr(self, f.name)} is not a file this process may read", f.name)


class Setting(NamedTuple):
    """One variable: its name, its field, what it means, its default as text, and what it may be."""

    variable: str
    field: str
    meaning: str
    default: str
    values: str


def variable_of(field: str) -> str:
    """Return the environment variable of a field."""
    return ENV_PREFIX + field.upper()


def key_bytes(text: str, what: str) -> bytes:
    """Decode a 32-byte key written in hex or base64. Raises SettingsError that speaks of ``what``, never of the key."""
    text = text.strip()
    try:
        key = bytes.fromhex(text) if re.fullmatch(r"[0-9A-Fa-f]{64}", text) else base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise SettingsError(f"{what}: write 32 bytes, in hex or base64")
    return key


def _setting(field: msgspec.structs.FieldInfo) -> Setting:
    bare, meanings = _unwrap(field.type)
    if get_args(bare) and all(isinstance(a, str) for a in get_args(bare)):
        values = " ".join(get_args(bare))
    elif bare is bool:
        values = "true false"
    else:
        values = "number" if bare in (int, float) else "text" if bare is str else "secret"
    default = "" if field.default in (None, "") else str(field.default).lower() if bare is bool else str(field.default)
    return Setting(variable_of(field.name), field.name, meanings, default, values)


def _unwrap(type_: Any) -> tuple[Any, str]:
    meaning = ""
    while hasattr(type_, "__metadata__"):
        meaning = next((m.description for m in type_.__metadata__ if isinstance(m, Meta) and m.description), meaning)
        type_ = type_.__origin__
    return type_, meaning


def _secret(type_: type, value: object) -> Secret:
    if type_ is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(type_)


def _names(*fields: str) -> str:
    return ", ".join(variable_of(f) for f in fields)


def _unknown(variable: str) -> str:
    close = difflib.get_close_matches(variable, [s.variable for s in SETTINGS], n=1)
    advice = f"did you mean {close[0]}?" if close else "unset it; `offhook worker --help` lists them all"
    return f"{variable}: no such setting; {advice}"


def _plainly(error: str, type_: Any) -> str:
    bare, _ = _unwrap(type_)
    if get_args(bare) and all(isinstance(a, str) for a in get_args(bare)):
        return "write one of " + ", ".join(get_args(bare))
    return error


SETTINGS: Final[tuple[Setting, ...]] = tuple(_setting(f) for f in msgspec.structs.fields(Settings))


def table() -> str:
    """Write the settings as a Markdown table."""
    rows = [f"| `{s.variable}` | {s.values} | {f'`{s.default}`' if s.default else ''} | {s.meaning} |" for s in SETTINGS]
    return "\n".join(["| variable | value | default | meaning |", "|---|---|---|---|", *rows])
