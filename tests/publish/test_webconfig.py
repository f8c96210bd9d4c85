"""The web configuration: what is taken, what is refused and how, and what an edit does."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import bcrypt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.publish.certificates import Authority, Pair, pem
from tests.publish.serving import app, ask, basic, serving
from wattspan.errors import SetupError
from wattspan.publish.passwords import MAX_WAITING, BusyError, Passwords
from wattspan.publish.webconfig import HEADERS, RETRY_S, WebConfigFile, read

SALT = b"$2b$04$WattspanWattspanWattse"  # always the same: tests are named by what they are given
ALICE = bcrypt.hashpw(b"wonderland", SALT).decode()
BOB = bcrypt.hashpw(b"builder", SALT).decode()
OPEN_PATHS = ("/-/healthy", "/-/ready", "/health/live", "/health/ready")
GUARDED_PATHS = ("/", "/metrics", "/openapi.json", "/api/v1/node", "/api/v1/grid", "/nothing")


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Who signs the certificates here."""
    return Authority()


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """The server's certificate."""
    return authority.pair()


@pytest.fixture
def folder(tmp_path: Path, pair: Pair, authority: Authority) -> Path:
    """A folder with certificate, key and client authority."""
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    return tmp_path


TLS = "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n"
MUTUAL = TLS + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"


def write(folder: Path, text: str) -> Path:
    """A web configuration in a folder, replaced as an editor does it: a new file under the old name."""
    fresh = folder / "web.yml.new"
    fresh.write_text(text)
    return fresh.replace(folder / "web.yml")


def refusal(folder: Path, text: str) -> str:
    """Why a configuration is refused."""
    path = write(folder, text)
    with pytest.raises(SetupError) as caught:
        WebConfigFile(path)
    why = str(caught.value)
    beginning = f"web.config.file: {path}: "
    assert why.startswith(beginning)
    assert "\n" not in why
    return why.removeprefix(beginning)


def test_an_empty_file_protects_nothing(tmp_path: Path) -> None:
    """Empty, as the toolkit has it, is plain HTTP without a password."""
    config = WebConfigFile(write(tmp_path, "# nothing yet\n"))
    assert (config.gate(), config.passwords(), config.headers()) == (None, None, {})


def test_the_toolkits_own_sample_is_taken(folder: Path) -> None:
    """Each key of the toolkit's documentation that we support is read with its meaning."""
    config = read(
        write(
            folder,
            MUTUAL
            + f"""
  client_allowed_sans: [scraper.example, "0:0:0:0:0:0:0:1"]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]
  prefer_server_cipher_suites: false
http_server_config:
  http2: true
  headers:
    X-Frame-Options: deny
    Content-Security-Policy: "default-src 'self'"
    X-XSS-Protection: ""
basic_auth_users:
  alice: {ALICE}
""",
        )
    )
    assert config.tls is not None
    assert config.tls.verify_mode == ssl.CERT_REQUIRED
    assert config.tls.allowed_sans == {"scraper.example", "::1"}
    assert config.tls.ciphers == ("ECDHE-ECDSA-AES256-GCM-SHA384",)
    assert config.tls.prefer_server_ciphers is False
    assert config.headers == {"X-Frame-Options": "deny", "Content-Security-Policy": "default-src 'self'"}
    assert config.users == {"alice": ALICE.encode()}


def test_no_secret_is_shown_by_accident(folder: Path) -> None:
    """Printing a configuration shows neither keys nor hashes."""
    config = read(write(folder, TLS + f"basic_auth_users:\n  alice: {ALICE}\n"))
    assert ALICE not in repr(config)
    assert "PRIVATE" not in repr(config)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a list", "the file: a list is not a mapping of keys to values"),
        (
            "tls_server_cfg: {}",
            "tls_server_cfg: a mapping: unknown key; did you mean tls_server_config? allowed: ",
        ),
        ("colour: red", "colour: 'red': unknown key; allowed: tls_server_config, http_server_config, basic_"),
        ("rate_limit: {interval: 1s}", "rate_limit: a mapping: rate limits are not supported"),
        ("1: 2", "1: 2: unknown key; "),
        ("tls_server_config: 3", "tls_server_config: 3 is not a mapping"),
        (
            TLS + "  cert_fil: x",
            "tls_server_config.cert_fil: 'x': unknown key; did you mean cert_file? allowed:",
        ),
        (TLS + "  curve_preferences: [X25519]", "tls_server_config.curve_preferences: a list: not supported"),
        (
            TLS + "  min_version: TLS10",
            "tls_server_config.min_version: 'TLS10' is not allowed; allowed: TLS12, ",
        ),
        (TLS + "  min_version: TLS13\n  max_version: TLS12", "tls_server_config.min_version: 'TLS13' is not"),
        (
            TLS + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            "tls_server_config.cipher_suites: 'TLS_RSA_WITH_",
        ),
        (
            TLS + "  cipher_suites: fast",
            "tls_server_config.cipher_suites: 'fast' is not allowed; allowed: a list",
        ),
        (TLS + "  prefer_server_cipher_suites: 1", "tls_server_config.prefer_server_cipher_suites: 1 is not"),
        (
            TLS + "  client_auth_type: Maybe",
            "tls_server_config.client_auth_type: 'Maybe' is not allowed; allowed:",
        ),
        (
            TLS + "  client_auth_type: RequireAnyClientCert",
            "tls_server_config.client_auth_type: 'RequireAnyClie",
        ),
        (TLS + "  client_auth_type: VerifyClientCertIfGiven", "tls_server_config.client_ca_file: missing"),
        (
            TLS + "  client_ca_file: ca.crt",
            "tls_server_config.client_auth_type: a client_ca_file needs Require",
        ),
        (
            TLS + "  client_allowed_sans: [a]",
            "tls_server_config.client_allowed_sans: a list is not allowed; ",
        ),
        (TLS + "  cert: xyz", "tls_server_config.cert and tls_server_config.cert_file: give one of the two"),
        ("tls_server_config:\n  key_file: tls.key", "tls_server_config.cert_file: missing"),
        ("tls_server_config:\n  cert_file: tls.crt", "tls_server_config.key_file: missing"),
        ("tls_server_config:\n  min_version: TLS13", "tls_server_config: cert_file and key_file are missing"),
        (
            "tls_server_config:\n  cert_file: no.crt\n  key_file: tls.key",
            "tls_server_config.cert_file: cannot read",
        ),
        (
            "tls_server_config:\n  cert_file: .\n  key_file: tls.key",
            "tls_server_config.cert_file: cannot read",
        ),
        (
            "tls_server_config:\n  cert_file: 7\n  key_file: tls.key",
            "tls_server_config.cert_file: 7 is not allow",
        ),
        (
            "tls_server_config:\n  cert_file: tls.key\n  key_file: tls.key",
            "tls_server_config.cert_file: holds no",
        ),
        (
            "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.crt",
            "tls_server_config.key_file: holds no",
        ),
        (
            "http_server_config: {http2: 'no'}",
            "http_server_config.http2: 'no' is not allowed; allowed: true, fal",
        ),
        (
            "http_server_config: {headers: {X-Frame: a}}",
            "http_server_config.headers.X-Frame: 'a': unknown key; d",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: maybe}}",
            "http_server_config.headers.X-Frame-Options:",
        ),
        (
            "http_server_config: {headers: {Strict-Transport-Security: ümlaut}}",
            "http_server_config.headers.Str",
        ),
        (
            "basic_auth_users: {alice: wonderland}",
            "basic_auth_users.alice: (hidden) is not a bcrypt hash; allowe",
        ),
        (
            f"basic_auth_users: {{'a:b': {ALICE}}}",
            "basic_auth_users: 'a:b' is not a user name; allowed: text",
        ),
        (f"basic_auth_users: {{1: {ALICE}}}", "basic_auth_users: 1 is not a user name"),
        (f"alice: {ALICE}", "alice: (hidden): unknown key"),
        (
            "basic_auth_users: {alice: $2y$31$" + "x" * 53 + "}",
            "basic_auth_users.alice: a hash of cost 31 is not",
        ),
        ("a: b\na: c", "line 2: a: given twice"),
        (f"basic_auth_users:\n  a: {ALICE}\n  a: {BOB}", "line 3: basic_auth_users.a: given twice"),
        ("a: [1", "line 1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b\n\tc: d", "line 2: not valid YAML: "),
        ("a: *b", "line 1: not valid YAML: found undefined alias"),
        ("&a {b: *a}", "not valid YAML: "),
        ("a: 2026-99-99", "not valid YAML: "),
        ("!!python/object/apply:os.system [id]", "line 1: not valid YAML: could not determine a constructor"),
        ("a: \x07", "not valid YAML: "),
    ],
)
def test_what_cannot_work_is_named(folder: Path, text: str, why: str) -> None:
    """A refusal names file, key, value and what is allowed, on one line and without secrets."""
    refused = refusal(folder, text)
    assert refused.startswith(why)
    assert "wonderland" not in refused


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A web configuration that is missing, a folder or no text is a SetupError."""
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yml", ".", "binary.yml", "nul\0"):
        with pytest.raises(SetupError, match=r"^web\.config\.file: .*: cannot be read: "):
            WebConfigFile(tmp_path / name)


def test_a_key_of_another_certificate_is_named(folder: Path, authority: Authority) -> None:
    """Certificate and key that do not belong together are told apart from broken ones."""
    (folder / "tls.key").write_bytes(authority.pair().key)
    assert refusal(folder, TLS) == "tls_server_config: cert_file and key_file do not belong together"
    (folder / "tls.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert refusal(folder, TLS).startswith("tls_server_config: cert_file or key_file cannot be used: ")


def test_an_encrypted_key_does_not_ask_the_terminal(folder: Path) -> None:
    """A key with a passphrase is refused instead of waiting for somebody to type it."""
    (folder / "tls.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"passphrase"))
    assert refusal(folder, TLS).startswith("tls_server_config.key_file: the key is encrypted")


def test_a_client_authority_that_is_none_is_named(folder: Path) -> None:
    """A client_ca_file without a certificate is a SetupError."""
    for content in ("", "nonsense"):
        (folder / "ca.crt").write_text(content)
        assert refusal(folder, MUTUAL).startswith("tls_server_config.client_ca_file: holds no usable PEM")


def test_certificates_may_stand_in_the_file_itself(folder: Path, pair: Pair, authority: Authority) -> None:
    """cert and key in place of cert_file and key_file work, and nothing is written to the disk."""
    lines = {"cert": pair.certificate, "key": pair.key}
    text = "tls_server_config:\n" + "".join(
        f"  {name}: |\n" + "".join(f"    {line}\n" for line in content.decode().splitlines())
        for name, content in lines.items()
    )
    before = set(folder.iterdir())
    config = WebConfigFile(write(folder, text))
    with serving(gate=config.gate) as port:
        assert ask(port, "/-/healthy", tls=authority.client(folder)).status == 200
    assert {path.name for path in set(folder.iterdir()) - before} == {"web.yml"}


def test_a_client_certificate_is_required_and_verified(folder: Path, authority: Authority) -> None:
    """RequireAndVerifyClientCert lets in who shows a certificate of the authority, and nobody else."""
    config = WebConfigFile(write(folder, MUTUAL))
    stranger = Authority("another")
    imposter = authority.client(folder, stranger.pair("scraper"))
    with serving(gate=config.gate) as port:
        assert ask(port, "/metrics", tls=authority.client(folder, authority.pair("scraper"))).status == 200
        for context in (authority.client(folder), imposter):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask(port, "/metrics", tls=context)


def test_a_client_certificate_is_verified_if_given(folder: Path, authority: Authority) -> None:
    """VerifyClientCertIfGiven lets in who shows none, and not who shows a wrong one."""
    config = WebConfigFile(
        write(folder, MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    )
    with serving(gate=config.gate) as port:
        assert ask(port, "/metrics", tls=authority.client(folder)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, "/metrics", tls=authority.client(folder, Authority("another").pair()))


def test_only_allowed_names_may_pass(folder: Path, authority: Authority) -> None:
    """client_allowed_sans lets in certificates that hold one of the names: DNS, e-mail, URI or address."""
    sans = "  client_allowed_sans: [scraper.example, sre@example.org, 'spiffe://x/prom', '2001:db8::7']\n"
    config = WebConfigFile(write(folder, MUTUAL + sans))
    named = [
        authority.pair("scraper.example"),
        authority.pair("x", x509.RFC822Name("sre@example.org")),
        authority.pair("x", x509.UniformResourceIdentifier("spiffe://x/prom")),
        authority.pair("x", x509.IPAddress(ip_address("2001:db8::7"))),
    ]
    with serving(gate=config.gate) as port:
        for pair in named:
            assert ask(port, "/metrics", tls=authority.client(folder, pair)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, "/metrics", tls=authority.client(folder, authority.pair("other.example")))


def test_versions_and_ciphers_are_those_asked_for(folder: Path, authority: Authority) -> None:
    """A client below min_version is refused, and the cipher named is the cipher used."""
    config = WebConfigFile(
        write(
            folder, TLS + "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
        )
    )
    with serving(gate=config.gate) as port:
        client = authority.client(folder)
        assert ask(port, "/metrics", tls=client).status == 200
        client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, "/metrics", tls=client)
        modern = authority.client(folder)
        modern.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, "/metrics", tls=modern)


def test_an_old_version_of_tls_is_refused(folder: Path, authority: Authority) -> None:
    """min_version: TLS13 lets no TLS 1.2 in."""
    config = WebConfigFile(write(folder, TLS + "  min_version: TLS13\n"))
    old = authority.client(folder)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(gate=config.gate) as port:
        assert ask(port, "/metrics", tls=authority.client(folder)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, "/metrics", tls=old)


def test_passwords_guard_all_but_the_probes(tmp_path: Path) -> None:
    """Without the right password everything but health and readiness is a 401 that asks for one."""
    config = WebConfigFile(write(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n  bob: {BOB}\n"))
    wrong = [
        {},
        basic("alice", "builder"),
        basic("carol", "wonderland"),
        basic("", ""),
        basic("alice", "wonder\0land"),
        basic("alice", "x" * 10_000),
        {"Authorization": "Basic ???"},
        {"Authorization": "Basic YWxpY2U="},
        {"Authorization": "Bearer wonderland"},
        {"Authorization": "Basic /////w=="},
    ]
    with serving(app(guard=config)) as port:
        for path in OPEN_PATHS:
            assert ask(port, path).status == 200
        for path in GUARDED_PATHS:
            assert ask(port, path).status == 401
            assert ask(port, path, headers=basic("alice", "wonderland")).status in {200, 404}
        assert ask(port, "/metrics", headers=basic("bob", "builder")).status == 200
        for headers in wrong:
            refused = ask(port, "/metrics", headers=headers)
            assert refused.status == 401
            assert refused.headers["www-authenticate"].startswith("Basic realm=")
            assert refused.document["title"] == "Unauthorized"


def test_headers_are_set_on_every_answer(tmp_path: Path) -> None:
    """The headers of http_server_config stand on every answer, over our own."""
    assert set(HEADERS) >= {"X-Frame-Options", "Content-Security-Policy"}
    text = (
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: sandbox\n"
    )
    config = WebConfigFile(write(tmp_path, text))
    with serving(app(guard=config)) as port:
        for path in ("/", "/metrics", "/nothing", "/-/ready"):
            answer = ask(port, path)
            assert answer.headers["x-frame-options"] == "deny"
            assert answer.headers["content-security-policy"] == "sandbox"


def test_an_edit_is_taken_up_without_a_restart(folder: Path, authority: Authority) -> None:
    """New users and a new certificate count from the next request and the next connection on."""
    config = WebConfigFile(write(folder, TLS + f"basic_auth_users:\n  alice: {ALICE}\n"))
    second = Authority("second")
    with serving(app(guard=config), gate=config.gate) as port:
        first_client, second_client = authority.client(folder), second.client(folder)
        assert ask(port, "/metrics", headers=basic("alice", "wonderland"), tls=first_client).status == 200
        write(folder, TLS + f"basic_auth_users:\n  bob: {BOB}\n")
        assert ask(port, "/metrics", headers=basic("alice", "wonderland"), tls=first_client).status == 401
        assert ask(port, "/metrics", headers=basic("bob", "builder"), tls=first_client).status == 200
        renewed = second.pair()
        (folder / "tls.crt").write_bytes(renewed.certificate)
        (folder / "tls.key").write_bytes(renewed.key)
        assert ask(port, "/metrics", headers=basic("bob", "builder"), tls=second_client).status == 200
        with pytest.raises(ssl.SSLError):
            ask(port, "/metrics", tls=first_client)


def test_a_certificate_swapped_by_a_symbolic_link_is_taken_up(folder: Path, authority: Authority) -> None:
    """Kubernetes renews mounted secrets by swapping one link."""
    second = Authority("second")
    for name, pair in (("a", authority.pair()), ("b", second.pair())):
        (folder / name).mkdir()
        (folder / name / "tls.crt").write_bytes(pair.certificate)
        (folder / name / "tls.key").write_bytes(pair.key)
    (folder / "data").symlink_to("a")
    config = WebConfigFile(write(folder, TLS.replace("tls.", "data/tls.")))
    with serving(gate=config.gate) as port:
        assert ask(port, "/-/healthy", tls=authority.client(folder)).status == 200
        (folder / "fresh").symlink_to("b")
        (folder / "fresh").replace(folder / "data")
        assert ask(port, "/-/healthy", tls=second.client(folder)).status == 200


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ("tls_server_config: [", "not valid YAML"),
        ("", "it would lift TLS"),
        (TLS, "it would lift passwords"),
        (TLS.replace("tls.crt", "gone.crt"), "cannot read"),
        (f"basic_auth_users:\n  bob: {BOB}\n", "it would lift TLS"),
    ],
)
def test_a_broken_edit_keeps_the_last_good_one(
    folder: Path, edit: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An edit that cannot work, or that lifts protection, leaves the former in force and one warning."""
    config = WebConfigFile(write(folder, TLS + f"basic_auth_users:\n  alice: {ALICE}\n"))
    gate, passwords = config.gate(), config.passwords()
    write(folder, edit)
    with caplog.at_level(logging.INFO, "wattspan.web"):
        for _ in range(5):
            assert config.gate() is gate
            assert config.passwords() is passwords
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert why in caplog.text


def test_a_refused_edit_is_taken_up_once_it_can_work(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that arrives after the file that names it is found, without another edit."""
    now = [0.0]
    config = WebConfigFile(write(folder, TLS), clock=lambda: now[0])
    former = config.gate()
    write(folder, TLS.replace("tls.crt", "late.crt"))
    with caplog.at_level(logging.INFO, "wattspan.web"):
        assert config.gate() is former
        now[0] += RETRY_S
        assert config.gate() is former
        (folder / "late.crt").write_bytes((folder / "tls.crt").read_bytes())
        assert config.gate() is former
        now[0] += RETRY_S
        assert config.gate() is not former
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_nothing_is_read_while_nothing_changes(folder: Path) -> None:
    """Asking again and again gives the same objects."""
    config = WebConfigFile(write(folder, TLS + f"basic_auth_users:\n  alice: {ALICE}\n"))
    assert config.gate() is config.gate()
    assert config.passwords() is config.passwords()


def test_a_changed_certificate_forgets_no_password(folder: Path) -> None:
    """Renewing a certificate does not make every scraper pay for bcrypt again."""
    config = WebConfigFile(write(folder, TLS + f"basic_auth_users:\n  alice: {ALICE}\n"))
    gate, passwords = config.gate(), config.passwords()
    os.utime(folder / "tls.crt", ns=(1, 1))
    assert config.gate() is not gate
    assert config.passwords() is passwords


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that passwords were checked against; bcrypt itself does the checking."""
    against: list[bytes] = []
    check: Callable[[bytes, bytes], bool] = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        against.append(hashed)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return against


def test_success_is_remembered_and_failure_is_not(counted: list[bytes]) -> None:
    """The right password costs bcrypt once; a wrong one costs it each time, as does an unknown user."""
    passwords = Passwords({"alice": ALICE.encode(), "bob": BOB.encode()})

    async def story() -> list[bool]:
        said = [
            basic(*pair)["Authorization"] for pair in (("alice", "wonderland"), ("alice", "x"), ("eve", "x"))
        ]
        return [await passwords.admits(words) for words in said * 3]

    assert asyncio.run(story()) == [True, False, False] * 3
    assert counted.count(ALICE.encode()) == 1 + 3 + 3


def test_an_unknown_user_with_a_known_password_stays_out() -> None:
    """The hash that stands in for an unknown user lets nobody in."""
    passwords = Passwords({"alice": ALICE.encode()})
    assert asyncio.run(passwords.admits(basic("eve", "wonderland")["Authorization"])) is False


def test_equal_checks_at_once_are_one(counted: list[bytes]) -> None:
    """Twenty first scrapes with the same password cost bcrypt once."""
    passwords = Passwords({"alice": ALICE.encode()})
    said = basic("alice", "wonderland")["Authorization"]

    async def story() -> list[bool]:
        return await asyncio.gather(*(passwords.admits(said) for _ in range(20)))

    assert asyncio.run(story()) == [True] * 20
    assert len(counted) == 1


def test_guessing_does_not_queue_up_without_end() -> None:
    """Beyond a bound, further different passwords are told to come back, and a known one still passes."""
    passwords = Passwords({"alice": ALICE.encode()})
    known = basic("alice", "wonderland")["Authorization"]

    async def story() -> tuple[int, bool]:
        await passwords.admits(known)
        guesses = [basic("alice", str(n))["Authorization"] for n in range(MAX_WAITING * 2)]
        answers = asyncio.gather(*map(passwords.admits, guesses), return_exceptions=True)
        await asyncio.sleep(0)
        passed = await passwords.admits(known)
        return sum(isinstance(answer, BusyError) for answer in await answers), passed

    assert asyncio.run(story()) == (MAX_WAITING, True)


def test_a_storm_of_guesses_is_answered(tmp_path: Path) -> None:
    """Over HTTP the same storm gets 401 or 429, and the scraper's next scrape is a 200."""
    config = WebConfigFile(write(tmp_path, f"basic_auth_users:\n  alice: {ALICE}\n"))
    right = basic("alice", "wonderland")
    with serving(app(guard=config)) as port, ThreadPoolExecutor(40) as clients:
        assert ask(port, "/metrics", headers=right).status == 200
        statuses = {
            answer.status
            for answer in clients.map(
                lambda n: ask(port, "/metrics", headers=basic("alice", f"guess {n}")), range(80)
            )
        }
        assert statuses <= {401, 429}
        assert ask(port, "/metrics", headers=right).status == 200


def test_hashes_as_htpasswd_writes_them_are_taken() -> None:
    """$2y$ of Apache's htpasswd and $2a$ of others are the same bcrypt."""
    for prefix in ("$2y$", "$2a$", "$2b$"):
        passwords = Passwords({"alice": (prefix + ALICE[4:]).encode()})
        assert asyncio.run(passwords.admits(basic("alice", "wonderland")["Authorization"])) is True


YAML_WORDS = st.sampled_from(
    [
        "tls_server_config",
        "http_server_config",
        "basic_auth_users",
        "cert_file",
        "key_file",
        "headers",
        "min_version",
        "client_auth_type",
        "cipher_suites",
    ]
)
YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates().map(str),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(YAML_WORDS | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60) | YAML_VALUES)
def test_no_content_gets_past_the_error_tree(tmp_path: Path, content: object) -> None:
    """Whatever stands in the file, it is either taken or a SetupError of one line."""
    path = tmp_path / "web.yml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, "utf-8", "surrogatepass")
    else:
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    refused = ""
    try:
        WebConfigFile(path)
    except SetupError as error:
        refused = str(error)
    assert "\n" not in refused
