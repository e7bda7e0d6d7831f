"""Does a broker answer, and if not, which setting is it? Asked once before a client of Kafka is made.

The clients themselves try for long, log the reason somewhere and end with "unable to bootstrap"; what an operator needs is the
variable to look at.
"""

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

from pipeline.settings import variable_of

PATIENCE_S: Final = 15.0  # brokers that start together with us are there by then
_PAUSE_S: Final = 0.5


class Unreachable(ConnectionError):
    """No broker answers, or not to us; the message names the variables and never a secret."""


def reach(connection: Mapping[str, Any], patience_s: float | None = None) -> None:
    """Wait until a broker takes a connection, TLS included; ``connection`` as ``Settings.connection`` builds it.

    Raises Unreachable: after ``patience_s`` (``PATIENCE_S``) when nobody listens, at once when the certificates do not fit.
    """
    deadline = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    while True:
        for broker in connection["bootstrap_servers"]:
            try:
                _connect(broker, connection.get("ssl_context"))
                return
            except ssl.SSLCertVerificationError as e:
                raise Unreachable(
                    f"{variable_of('ssl_ca_file')}: {broker} shows a certificate that is not trusted ({e.verify_message})"
                ) from None
            except ssl.SSLError as e:
                raise Unreachable(f"{variable_of('security')}: {broker} does not speak TLS with us ({e.reason})") from None
            except OSError as e:
                why = e
        if time.monotonic() >= deadline:
            raise Unreachable(f"{_brokers(connection)}: nobody takes a connection ({why})") from None
        time.sleep(_PAUSE_S)


def refused(connection: Mapping[str, Any], error: Exception) -> Unreachable:
    """Put in words that a client failed although a broker takes connections."""
    if "sasl_mechanism" in connection:
        hint = f"are {variable_of('sasl_user')}, its password and {variable_of('sasl_mechanism')} right?"
    else:
        hint = f"is {variable_of('security')}={connection['security_protocol'].lower()} what this listener speaks?"
    said = str(error).removeprefix(f"{type(error).__name__}: ")
    return Unreachable(f"{_brokers(connection)}: {type(error).__name__}: {said}; {hint}")


def _connect(broker: str, context: ssl.SSLContext | None) -> None:
    host, _, port = broker.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        if context is not None:
            context.wrap_socket(plain, server_hostname=host).close()


def _brokers(connection: Mapping[str, Any]) -> str:
    return f"{variable_of('brokers')}={','.join(connection['bootstrap_servers'])}"
