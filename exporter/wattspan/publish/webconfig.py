"""The web configuration file: TLS, client certificates, passwords and headers.

The format is that of Prometheus' exporter-toolkit (docs/web-configuration.md, read 2026-11-20), so a file
that serves another exporter serves this one. What differs is refused by name, never passed over in silence:

- ``client_auth_type: RequireAnyClientCert``: Python's ssl cannot ask for a certificate without verifying it.
- ``min_version`` and ``max_version`` below TLS12, ``curve_preferences`` and ``rate_limit``.
- While the daemon runs, an edit can change TLS and passwords but not lift them: an editor that empties the
  file before it writes it anew would otherwise leave the door open for a moment.

``http2`` is taken and changes nothing: HTTP/1.1 is all that is spoken.
"""

import difflib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from wattspan.errors import SetupError
from wattspan.publish import extra, tls
from wattspan.publish.passwords import Passwords
from wattspan.publish.stamp import Stamp, stamp_of
from wattspan.publish.tls import TlsGate, TlsSettings

log = logging.getLogger("wattspan.web")

KEY: Final = "web.config.file"

T = TypeVar("T")

HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be set, with the values that are allowed; none means any."""

BCRYPT_HASH: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
BCRYPT_COSTS: Final = range(4, 16)
"""2^cost rounds: 15 takes two seconds, and each one more doubles that for every client's first request."""

RETRY_S: Final = 10.0
"""How often a refused edit is looked at again while its files stay the same."""

PLAIN_KEY: Final = re.compile(r"[\w.-]{1,80}", re.ASCII)

_SECTIONS: Final = ("tls_server_config", "http_server_config", "basic_auth_users")
_NOT_OURS: Final = {
    "rate_limit": "rate limits are not supported; connections are limited without being asked to",
    "tls_server_config.curve_preferences": "not supported; OpenSSL's own order of curves is used",
}
_TLS_KEYS: Final = (
    "cert_file",
    "key_file",
    "cert",
    "key",
    "client_auth_type",
    "client_ca_file",
    "client_ca",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
)
_TLS_SWITCHES: Final = (
    "cert_file",
    "key_file",
    "cert",
    "key",
    "client_auth_type",
    "client_ca_file",
    "client_ca",
)
"""Any of these turns TLS on, as in the toolkit."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """A web configuration that was understood.

    Attributes:
        tls: None for plain HTTP.
        gate: what connections pass through, made of `tls`.
        users: bcrypt hash by user name; empty when nobody is asked.
        headers: to set on every response, over our own.
        files: the files it rests on, itself included, with their stamps from before they were read.
    """

    tls: TlsSettings | None
    gate: TlsGate | None = field(repr=False)
    users: Mapping[str, bytes] = field(repr=False)
    headers: Mapping[str, str]
    files: Mapping[Path, Stamp]


class WebConfigFile:
    """The web configuration in force, taken up anew whenever one of its files has changed.

    Asking costs a `stat` of each file. An edit that cannot work is named once in the log, and the former
    configuration stays in force. After the constructor, everything is called from the server's thread.

    Args:
        path: the file; other paths in it are relative to its folder.
        clock: seconds, monotonic.

    Raises:
        SetupError: the file, or one that it names, cannot be read or used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._config = read(path)
        self._watched = self._config.files
        self._passwords = _passwords(self._config)
        self._refused = ""
        self._again_at = 0.0

    def gate(self) -> TlsGate | None:
        """What a connection that begins now passes through; None for plain HTTP."""
        self._refresh()
        return self._config.gate

    def passwords(self) -> Passwords | None:
        """Who may pass now; None when nobody is asked."""
        self._refresh()
        return self._passwords

    def headers(self) -> Mapping[str, str]:
        """What to set on responses now."""
        return self._config.headers

    def _refresh(self) -> None:
        now = {path: stamp_of(path) for path in self._watched}
        # A refused edit may name files that are not watched yet, so it is looked at again in any case.
        if now == self._watched and not (self._refused and self._clock() >= self._again_at):
            return
        self._watched = now
        try:
            self._take_up(read(self._path))
        except SetupError as error:
            self._again_at = self._clock() + RETRY_S
            if self._refused != str(error):
                log.warning("web configuration cannot be used; the former stays in force: %s", error)
            self._refused = str(error)
            return
        self._refused = ""
        log.info("web configuration taken up anew from %s", self._path)

    def _take_up(self, config: WebConfig) -> None:
        if self._config.tls and not config.tls:
            raise SetupError(f"{KEY}: {self._path}: it would lift TLS; restart the daemon if that is meant")
        if self._config.users and not config.users:
            raise SetupError(
                f"{KEY}: {self._path}: it would lift passwords; restart the daemon if that is meant"
            )
        if config.users != self._config.users:
            self._passwords = _passwords(config)
        self._config, self._watched = config, config.files


def read(path: Path) -> WebConfig:
    """Read and check a web configuration and the files it names. Blocks on the disk.

    Raises:
        SetupError: it cannot work; the text names the file, the key, its value and what is allowed.
    """
    files = {path: stamp_of(path)}
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise SetupError(f"{KEY}: {path}: cannot be read: {_why(error)}") from error
    try:
        return _config(_Section("", _yaml(text), path.parent, files))
    except SetupError as error:
        raise SetupError(f"{KEY}: {path}: {error}") from error.__cause__


class _Section:
    """A mapping of the file, read key by key; every complaint names the whole key.

    Args:
        name: the keys that lead here, joined by dots; empty at the top.
        content: what YAML made of it.
        folder: where relative paths begin.
        files: gains the stamp of each file that is read.
    """

    def __init__(self, name: str, content: object, folder: Path, files: dict[Path, Stamp]) -> None:
        self.name = name
        self.folder = folder
        self.files = files
        if content is not None and not isinstance(content, dict):
            raise SetupError(f"{name or 'the file'}: {_shown(content)} is not a mapping of keys to values")
        self.content: dict[Any, Any] = content or {}

    def key(self, key: object) -> str:
        return f"{self.name}.{_word(key)}" if self.name else _word(key)

    def refuse(self, key: str, allowed: str) -> NoReturn:
        raise SetupError(f"{self.key(key)}: {_shown(self.content[key])} is not allowed; allowed: {allowed}")

    def only(self, allowed: Iterable[str]) -> None:
        """Complain about any key that is not one of these, with the one that was probably meant."""
        known = list(allowed)
        for key, value in self.content.items():
            if key in known:
                continue
            if reason := _NOT_OURS.get(self.key(key)):
                raise SetupError(f"{self.key(key)}: {_shown(value)}: {reason}")
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SetupError(
                f"{self.key(key)}: {_shown(value)}: unknown key; {hint}allowed: {', '.join(known)}"
            )

    def section(self, key: str) -> "_Section":
        return _Section(self.key(key), self.content.get(key), self.folder, self.files)

    def text(self, key: str) -> str | None:
        value = self.content.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.refuse(key, "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true, false")
        return value

    def one_of(self, key: str, table: Mapping[str, T], default: str) -> T:
        value = self.content.get(key, default)
        if not isinstance(value, str) or value not in table:
            self.refuse(key, ", ".join(table))
        return table[value]

    def texts(self, key: str) -> list[str] | None:
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.refuse(key, "a list of texts")
        return value

    def pem(self, inline: str, file: str) -> bytes | None:
        """A PEM text, given in place or as a file."""
        text, name = self.text(inline), self.text(file)
        if text is not None and name is not None:
            raise SetupError(f"{self.key(inline)} and {self.key(file)}: give one of the two")
        if text is not None:
            return text.encode()
        if name is None:
            return None
        path = self.folder / name
        self.files[path] = stamp_of(path)
        try:
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise SetupError(f"{self.key(file)}: cannot read {str(path)!r}: {_why(error)}") from error


def _config(top: _Section) -> WebConfig:
    top.only(_SECTIONS)
    settings = _tls(top.section("tls_server_config"))
    return WebConfig(
        tls=settings,
        gate=tls.gate(settings) if settings else None,
        users=_users(top.section("basic_auth_users")),
        headers=_headers(top.section("http_server_config")),
        files=top.files,
    )


def _tls(section: _Section) -> TlsSettings | None:
    section.only(_TLS_KEYS)
    if not any(section.content.get(key) for key in _TLS_SWITCHES):
        if section.content:
            raise SetupError(f"{section.name}: cert_file and key_file are missing")
        return None
    certificate, key = section.pem("cert", "cert_file"), section.pem("key", "key_file")
    if certificate is None:
        raise SetupError(f"{section.key('cert_file')}: missing; TLS needs a certificate")
    if key is None:
        raise SetupError(f"{section.key('key_file')}: missing; TLS needs the certificate's key")
    verify_mode = _verify_mode(section)
    client_ca = section.pem("client_ca", "client_ca_file")
    if client_ca is None and verify_mode != ssl.CERT_NONE:
        raise SetupError(f"{section.key('client_ca_file')}: missing; verifying clients needs their authority")
    if client_ca is not None and verify_mode == ssl.CERT_NONE:
        raise SetupError(
            f"{section.key('client_auth_type')}: a client_ca_file needs RequireAndVerifyClientCert "
            "or VerifyClientCertIfGiven"
        )
    sans = section.texts("client_allowed_sans")
    if sans is not None and verify_mode != ssl.CERT_REQUIRED:
        section.refuse("client_allowed_sans", "only with client_auth_type: RequireAndVerifyClientCert")
    min_version = section.one_of("min_version", tls.VERSIONS, "TLS12")
    max_version = section.one_of("max_version", tls.VERSIONS, "TLS13")
    if min_version > max_version:
        section.refuse("min_version", "nothing above max_version")
    return TlsSettings(
        certificate_pem=certificate,
        key_pem=key,
        verify_mode=verify_mode,
        client_ca_pem=client_ca,
        allowed_sans=None if sans is None else frozenset(map(tls.plain_san, sans)),
        min_version=min_version,
        max_version=max_version,
        ciphers=_ciphers(section),
        prefer_server_ciphers=section.flag("prefer_server_cipher_suites", default=True),
    )


def _verify_mode(section: _Section) -> ssl.VerifyMode:
    if section.content.get("client_auth_type") in {"RequireAnyClientCert", "RequireClientCert"}:
        section.refuse(
            "client_auth_type",
            f"{', '.join(tls.CLIENT_AUTH)} (a certificate cannot be required without verifying it here)",
        )
    if section.text("client_auth_type") is None:
        return ssl.CERT_NONE
    return section.one_of("client_auth_type", tls.CLIENT_AUTH, "NoClientCert")


def _ciphers(section: _Section) -> tuple[str, ...]:
    names = section.texts("cipher_suites") or []
    for name in names:
        if name not in tls.CIPHER_SUITES:
            near = difflib.get_close_matches(name, tls.CIPHER_SUITES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SetupError(
                f"{section.key('cipher_suites')}: {_shown(name)} is not allowed; "
                f"{hint}allowed: {', '.join(tls.CIPHER_SUITES)}"
            )
    return tuple(filter(None, (tls.CIPHER_SUITES[name] for name in names)))


def _headers(section: _Section) -> dict[str, str]:
    section.only(("http2", "headers"))
    section.flag("http2", default=True)
    headers = section.section("headers")
    headers.only(HEADERS)
    chosen = {name: text for name in HEADERS if (text := headers.text(name)) is not None}
    for name, text in chosen.items():
        allowed = HEADERS[name]
        if allowed and text not in allowed:
            headers.refuse(name, ", ".join(allowed))
        if not text.isascii() or not text.isprintable():
            headers.refuse(name, "printable ASCII")
    return chosen


def _users(section: _Section) -> dict[str, bytes]:
    users = {}
    for user, given in section.content.items():
        if not isinstance(user, str) or not user or ":" in user:
            raise SetupError(
                f"{section.name}: {_shown(user)} is not a user name; allowed: text without a colon"
            )
        match = BCRYPT_HASH.fullmatch(given) if isinstance(given, str) else None
        # The value may be a password that somebody forgot to hash: it is not repeated.
        if match is None:
            raise SetupError(
                f"{section.key(user)}: (hidden) is not a bcrypt hash; "
                "allowed: $2a$, $2b$ or $2y$ as `htpasswd -nBC 10 ''` prints it"
            )
        if int(match[1]) not in BCRYPT_COSTS:
            raise SetupError(
                f"{section.key(user)}: a hash of cost {int(match[1])} is not allowed; "
                f"allowed: {BCRYPT_COSTS[0]} to {BCRYPT_COSTS[-1]}"
            )
        users[user] = given.encode()
    return users


def _passwords(config: WebConfig) -> Passwords | None:
    if not config.users:
        return None
    try:
        return Passwords(config.users)
    except ModuleNotFoundError as error:
        raise extra.missing("bcrypt", "basic_auth_users in the web configuration") from error


def _yaml(text: str) -> object:
    try:
        import yaml  # here, because it is optional: only a daemon with a web configuration needs it
    except ModuleNotFoundError as error:
        raise extra.missing("pyyaml", "a web configuration file") from error
    try:
        _refuse_duplicates(yaml.compose(text, Loader=yaml.SafeLoader), yaml.MappingNode, ())
        content: object = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SetupError(f"{line}not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        # ValueError: a date such as 2026-99-99, which YAML makes a date of.
        raise SetupError(f"not valid YAML: {' '.join(str(error).split())}") from error
    return content


def _refuse_duplicates(node: Any, mapping: type, above: tuple[str, ...]) -> None:
    """PyYAML keeps the last of two equal keys in silence: half of a configuration would be lost."""
    if not isinstance(node, mapping):
        return
    seen = set()
    for key, value in node.value:  # type: ignore[attr-defined]
        name = str(key.value)
        if name in seen:
            raise SetupError(
                f"line {key.start_mark.line + 1}: {'.'.join((*above, _word(name)))}: given twice"
            )
        seen.add(name)
        _refuse_duplicates(value, mapping, (*above, _word(name)))


def _word(key: object) -> str:
    """A key for people: as it stands, or quoted when it holds what could be taken for something else."""
    return str(key) if PLAIN_KEY.fullmatch(str(key)) else _shown(key)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _shown(value: object) -> str:
    """A value for people: short, on one line, without what is inside and without what may be a secret."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str) and ("\n" in value or value.startswith("$2")):
        return "(hidden)"  # a key, or a hash that stands in the wrong place
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
