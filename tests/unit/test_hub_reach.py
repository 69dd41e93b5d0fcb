"""Each connection reaches the Hub in its own way: another endpoint, token, proxy, certificates."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from meshtui.cache.fetch import fetch
from meshtui.cache.store import ModelStore
from meshtui.domain.connection import Connection
from meshtui.domain.errors import MeshtuiError, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.errors import HubUnreachable, ModelNotOnHub
from meshtui.hub.model_files import look_up
from meshtui.hub.reach import NO_TOKEN, Reach, reach_of, why_unreachable
from meshtui.settings.connections import check_connection
from meshtui.settings.toml_file import Wrong
from tests.hub_server import HubServer
from tests.support.proxy import Proxy

REF = ModelRef("acme/tiny")
FILES = {"config.json": b"{}", "model.safetensors": b"x" * 200_000}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.lower, PROXIES), "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    # What the Hub's client is told of REQUESTS_CA_BUNDLE is undone with this.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer() as server:
        server.add(str(REF), FILES, readers=("alice",))
        yield server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Iterator[str]:
    """The certificate of an organisation's own authority."""
    path = tmp_path / "organisation.pem"
    authority.cert_pem.write_to_path(str(path))
    yield str(path)


@pytest.fixture
async def secret_hub(authority: trustme.CA) -> AsyncIterator[HubServer]:
    """It speaks HTTPS, with a certificate that only this organisation trusts."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with HubServer(tls) as server:
        server.add(str(REF), FILES)
        yield server


def connection(**properties: str) -> Connection:
    named = {f"hub.{name}": value for name, value in properties.items()}
    return Connection(name="own", properties=named)


async def bring(reach: Reach, folder: Path) -> None:
    entry = await fetch(REF, ModelStore(folder), reach, on_progress=lambda progress: None)
    for name, data in FILES.items():
        assert (entry.model_dir / name).read_bytes() == data


# --- endpoint and token


async def test_a_connection_has_its_own_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    await bring(reach_of(connection(endpoint=f"{hub.url}/")), tmp_path)


async def test_the_environments_token_goes_to_no_other_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    assert reach_of(connection(endpoint=hub.url)).token == NO_TOKEN
    await bring(reach_of(connection(endpoint=hub.url)), tmp_path / "other")
    assert not any(request.authorised for request in hub.requests)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert reach_of(connection(endpoint=hub.url)).token is None
    monkeypatch.setenv("MINE", "hf_alice")
    own = Connection(name="own", access_token="env:MINE", properties={"hub.endpoint": hub.url})
    hub.repos[str(REF)].private = True
    await bring(reach_of(own), tmp_path / "own")
    with pytest.raises(ModelNotOnHub):
        await bring(Reach(endpoint=hub.url, token=NO_TOKEN), tmp_path / "none")


def test_a_reach_shows_no_secrets() -> None:
    reach = Reach(endpoint="https://hub", token="hf_secret", proxy="http://me:secret@proxy:1")
    assert "secret" not in f"{reach} {reach!r}"


async def test_a_renamed_model_is_found_by_its_old_name(hub: HubServer, tmp_path: Path) -> None:
    hub.renamed["acme/old-name"] = str(REF)
    store = ModelStore(tmp_path)
    old = ModelRef("acme/old-name")
    entry = await fetch(old, store, Reach(endpoint=hub.url), on_progress=lambda progress: None)
    assert (entry.model_dir / "model.safetensors").stat().st_size == 200_000
    assert entry.ref == old


# --- proxies


async def test_a_connections_proxy_carries_everything(hub: HubServer, tmp_path: Path) -> None:
    async with Proxy() as proxy:
        reach = reach_of(connection(endpoint=hub.url, proxy=proxy.url))
        await bring(reach, tmp_path)
    places = {url.removeprefix("http://") for url in (hub.url, hub.store_url)}
    assert set(proxy.asked) == places
    assert len(proxy.asked) == len(hub.requests)


async def test_the_environments_proxy_is_used(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert await why_unreachable(Reach(endpoint=hub.url)) is None
        assert proxy.asked
        proxy.asked.clear()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await why_unreachable(Reach(endpoint=hub.url)) is None
        assert not proxy.asked


async def test_a_password_for_the_proxy_stands_elsewhere_and_is_never_told(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy("me:s3cret") as proxy:
        monkeypatch.setenv("MY_PROXY", proxy.url)
        await bring(reach_of(connection(endpoint=hub.url, proxy="env:MY_PROXY")), tmp_path / "x")
        wrong = proxy.url.replace("s3cret", "wr0ng")
        with pytest.raises(HubUnreachable, match="proxy wants a") as error:
            await bring(Reach(endpoint=hub.url, proxy=wrong), tmp_path / "y")
        assert "wr0ng" not in str(error.value)


async def test_a_proxy_that_is_not_there_is_said(hub: HubServer, tmp_path: Path) -> None:
    gone = Reach(endpoint=hub.url, proxy="http://me:s3cret@127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"hub\.proxy") as error:
        await bring(gone, tmp_path)
    assert "s3cret" not in str(error.value)
    with pytest.raises(HubUnreachable) as error:
        await look_up(REF, gone, retry_pause_s=0.01)
    assert "s3cret" not in str(error.value)


# --- certificates


async def test_an_unknown_certificate_is_refused_with_what_helps(
    secret_hub: HubServer, tmp_path: Path
) -> None:
    with pytest.raises(MeshtuiError, match="certificate") as error:
        await bring(Reach(endpoint=secret_hub.url), tmp_path)
    assert "hub.ca_bundle" in str(error.value)
    assert secret_hub.requests == []


async def test_a_connections_certificates_are_trusted(
    secret_hub: HubServer, tmp_path: Path, bundle: str
) -> None:
    await bring(reach_of(connection(endpoint=secret_hub.url, ca_bundle=bundle)), tmp_path)


async def test_a_proxy_and_certificates_go_together(
    secret_hub: HubServer, tmp_path: Path, bundle: str
) -> None:
    async with Proxy() as proxy:
        own = connection(endpoint=secret_hub.url, ca_bundle=bundle, proxy=proxy.url)
        await bring(reach_of(own), tmp_path)
    assert {f"https://{place}" for place in proxy.asked} == {secret_hub.url, secret_hub.store_url}


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_the_environments_certificates_are_trusted(
    secret_hub: HubServer,
    tmp_path: Path,
    bundle: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a process of its own, since the Hub's client reads its environment once."""
    monkeypatch.setenv(variable, bundle)
    assert await why_unreachable(Reach(endpoint=secret_hub.url)) is None
    await bring(Reach(endpoint=secret_hub.url, proxy=""), tmp_path)


async def test_a_file_of_certificates_that_is_none_is_named(
    secret_hub: HubServer, tmp_path: Path
) -> None:
    for name, content in (("missing.pem", None), ("broken.pem", "nonsense")):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        with pytest.raises(Unavailable, match=name):
            await bring(Reach(endpoint=secret_hub.url, ca_bundle=str(path)), tmp_path / "x")


# --- settings


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"endpoint": "hub.example"}, "must be an address"),
        ({"proxy": "proxy:8080"}, "must be an address"),
        ({"proxy": "http://me:secret@proxy:8080"}, "holds a password"),
        ({"endpoint": "https://me:secret@hub"}, "holds a password"),
        ({"proxy": "env:"}, "env:"),
    ],
)
def test_what_cannot_be_meant_is_refused(properties: dict[str, str], said: str) -> None:
    with pytest.raises(Wrong, match=said) as error:
        check_connection(connection(**properties))
    assert "secret" not in str(error.value)


def test_what_can_be_meant_is_taken() -> None:
    check_connection(
        connection(endpoint="https://hub.example/path", proxy="env:PROXY", ca_bundle="~/ca.pem")
    )
