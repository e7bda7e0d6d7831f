"""Settings: what is refused says which variable and what to do, and a secret never shows."""

import base64
import ssl
from pathlib import Path

import pytest

from pipeline.core.policy import Policy
from pipeline.settings import SETTINGS, Settings, SettingsError, table


def test_nothing_set_is_a_broker_on_this_machine() -> None:
    settings = Settings.from_env({"PATH": "/bin", "OFFHOOKED": "x"})
    assert settings == Settings()
    assert settings.connection() == {"bootstrap_servers": ["127.0.0.1:9092"], "security_protocol": "PLAINTEXT"}
    assert settings.policy() == Policy()


@pytest.mark.parametrize(
    ("environ", "variable", "advice"),
    [
        ({"OFFHOOK_BROKER": "a:1"}, "OFFHOOK_BROKER:", "did you mean OFFHOOK_BROKERS?"),
        ({"OFFHOOK_brokers": "a:1"}, "OFFHOOK_brokers:", "no such setting"),
        ({"OFFHOOK_HTTPS_PORT": "80"}, "OFFHOOK_HTTPS_PORT:", "did you mean OFFHOOK_HTTP_PORT?"),
        ({"OFFHOOK_BROKERS": "kafka"}, "OFFHOOK_BROKERS:", "host:port"),
        ({"OFFHOOK_BROKERS": "http://kafka:9092"}, "OFFHOOK_BROKERS:", "host:port"),
        ({"OFFHOOK_PREFIX": "no spaces"}, "OFFHOOK_PREFIX:", "A-Za-z0-9"),
        ({"OFFHOOK_HTTP_PORT": "99999"}, "OFFHOOK_HTTP_PORT:", "65535"),
        ({"OFFHOOK_JSON_LOGS": "maybe"}, "OFFHOOK_JSON_LOGS:", "bool"),
        ({"OFFHOOK_SECURITY": "tls"}, "OFFHOOK_SECURITY:", "plaintext, ssl, sasl_ssl, sasl_plaintext"),
        (
            {"OFFHOOK_SECURITY": "sasl_plaintext", "OFFHOOK_SASL_USER": "u", "OFFHOOK_SASL_PASSWORD": "p"},
            "OFFHOOK_SECURITY:",
            "OFFHOOK_ALLOW_INSECURE_SASL=true",
        ),
        ({"OFFHOOK_SECURITY": "sasl_ssl"}, "OFFHOOK_SASL_USER, OFFHOOK_SASL_PASSWORD_FILE:", "needs a user and a password"),
        ({"OFFHOOK_SASL_USER": "u"}, "OFFHOOK_SECURITY:", "use sasl_ssl"),
        ({"OFFHOOK_SSL_CA_FILE": __file__}, "OFFHOOK_SECURITY:", "use ssl or sasl_ssl"),
        ({"OFFHOOK_SECURITY": "ssl", "OFFHOOK_SSL_KEY_FILE": __file__}, "OFFHOOK_SSL_CERT_FILE:", "set both"),
        ({"OFFHOOK_PSEUDONYM_KEY": "a", "OFFHOOK_PSEUDONYM_KEY_FILE": __file__}, "OFFHOOK_PSEUDONYM_KEY,", "unset one"),
        ({"OFFHOOK_DEAD_LETTERS": "sealed"}, "OFFHOOK_DEAD_LETTERS_PUBLIC_KEY_FILE:", "public key"),
        ({"OFFHOOK_POLICY_FILE": "/no/such/file"}, "OFFHOOK_POLICY_FILE:", "/no/such/file is not a file"),
    ],
)
def test_refusals_name_the_variable_and_say_what_to_do(environ: dict[str, str], variable: str, advice: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(environ)
    assert str(refused.value).startswith(variable)
    assert advice in str(refused.value)


def test_an_empty_variable_is_unset() -> None:
    assert Settings.from_env({"OFFHOOK_POLICY_FILE": "", "OFFHOOK_HTTP_PORT": " "}) == Settings()


def test_kubernetes_service_links_are_no_settings() -> None:
    links = {
        "OFFHOOK_DETECT_SERVICE_HOST": "192.0.2.1",
        "OFFHOOK_DETECT_SERVICE_PORT": "9464",
        "OFFHOOK_DETECT_SERVICE_PORT_HTTP": "9464",
        "OFFHOOK_DETECT_PORT": "tcp://192.0.2.1:9464",
        "OFFHOOK_DETECT_PORT_9464_TCP": "tcp://192.0.2.1:9464",
        "OFFHOOK_DETECT_PORT_9464_TCP_ADDR": "192.0.2.1",
    }
    assert Settings.from_env(links) == Settings()


def test_secrets_never_show(tmp_path: Path) -> None:
    environ = {
        "OFFHOOK_SECURITY": "sasl_ssl",
        "OFFHOOK_SASL_USER": "user",
        "OFFHOOK_SASL_PASSWORD": "hunter2hunter2",
        "OFFHOOK_PSEUDONYM_KEY": "correct-horse",
    }
    settings = Settings.from_env(environ)
    shown = repr(settings) + str(settings) + f"{settings.sasl_password}" + f"{settings.pseudonym_key!r}"
    assert "hunter2" not in shown
    assert "correct-horse" not in shown
    assert settings.connection()["sasl_plain_password"] == "hunter2hunter2"
    assert settings.pseudonym_text() == "correct-horse"


def test_a_refusal_does_not_show_a_secret() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"OFFHOOK_SASL_PASSWORD": "hunter2", "OFFHOOK_SASL_PASSWORD_FILE": __file__})
    assert "hunter2" not in str(refused.value)


def test_password_file_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" with space \n")
    settings = Settings.from_env(
        {"OFFHOOK_SECURITY": "sasl_ssl", "OFFHOOK_SASL_USER": "user", "OFFHOOK_SASL_PASSWORD_FILE": str(file)},
    )
    options = settings.connection()
    assert options["sasl_plain_password"] == " with space "
    assert options["security_protocol"] == "SASL_SSL"
    context = options["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_broken_certificate_is_named_by_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    settings = Settings.from_env({"OFFHOOK_SECURITY": "ssl", "OFFHOOK_SSL_CA_FILE": str(file)})
    with pytest.raises(SettingsError, match="OFFHOOK_SSL_CA_FILE"):
        settings.ssl_context()


def test_pseudonym_key_is_asked_for_when_it_is_needed() -> None:
    with pytest.raises(SettingsError, match="OFFHOOK_PSEUDONYM_KEY_FILE"):
        Settings().pseudonym_text()


def test_policy_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    settings = Settings(policy_file=str(file))
    file.write_text("[thresholds]\nalert = 0.6\n")
    assert settings.policy().thresholds.alert == 0.6
    file.write_text("[thresholds]\nalrt = 0.6\n")
    with pytest.raises(SettingsError, match=r"OFFHOOK_POLICY_FILE: .*thresholds"):
        settings.policy()
    file.write_text("thresholds")
    with pytest.raises(SettingsError, match="OFFHOOK_POLICY_FILE"):
        settings.policy()


def test_public_key_in_hex_or_base64(tmp_path: Path) -> None:
    file = tmp_path / "public"
    settings = Settings(dead_letters="sealed", dead_letters_public_key_file=str(file))
    for text in (bytes(range(32)).hex(), base64.b64encode(bytes(range(32))).decode() + "\n"):
        file.write_text(text)
        assert settings.dead_letters_public_key() == bytes(range(32))
    for text in ("", "00", "not a key", bytes(31).hex()):
        file.write_text(text)
        with pytest.raises(SettingsError, match="OFFHOOK_DEAD_LETTERS_PUBLIC_KEY_FILE: write 32 bytes"):
            settings.dead_letters_public_key()
    assert Settings().dead_letters_public_key() is None


def test_every_setting_has_a_meaning() -> None:
    assert all(s.meaning and s.values for s in SETTINGS)
    assert len({s.variable for s in SETTINGS}) == len(SETTINGS)
    assert all(s.variable in table() for s in SETTINGS)


def test_the_prefix_comes_before_every_topic() -> None:
    assert Settings(prefix="bank.").topic("logins") == "bank.logins"
