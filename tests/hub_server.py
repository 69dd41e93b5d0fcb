"""A Hub on this machine for tests: what `huggingface_hub` and our transfer ask of one.

It answers on two ports, as the real one does: the API with small files, and the store of large
files, which the API redirects to. Faults are put in a list and happen in order.

    async with HubServer() as hub:
        hub.add("org/name", {"config.json": b"{}", "model.safetensors": weights})
        hub.faults.append(Fault("model.safetensors", drop_after=1000))
"""

import asyncio
import functools
import hashlib
import json
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

# Any other token is invalid.
TOKENS = {"hf_alice": "alice", "hf_bob": "bob"}
_LARGE = re.compile(r"\.(safetensors|bin|gguf|onnx|h5)$")
_BLOCK_BYTES = 64 * 1024
_LOOPBACK = "127.0.0.1"


@dataclass
class Fault:
    """What goes wrong at the next `times` GET requests whose path holds `match`."""

    match: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop_after: int | None = None
    bytes_per_s: int | None = None
    corrupt: bool = False
    ignore_range: bool = False
    silent: bool = False
    body: bytes | None = None


@dataclass
class Request:
    """A request that was answered."""

    path: str
    range: str | None
    authorised: bool
    large: bool
    sent_bytes: int = 0


@dataclass
class Repo:
    id: str
    files: dict[str, bytes]
    gated: bool = False
    private: bool = False
    readers: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    # Hashes in Xet, by path.
    xet: dict[str, str] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        digests = sorted((path, sha256(data)) for path, data in self.files.items())
        return hashlib.sha1(repr(digests).encode()).hexdigest()


@functools.lru_cache(maxsize=100)
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=100)
def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer:
    def __init__(self, tls: ssl.SSLContext | None = None, host: str = _LOOPBACK) -> None:
        """`host` is the address by which others know this machine, where those are not on it."""
        self._tls = tls
        self._host = host
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        """Old names of repositories."""
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.url = ""
        self.store_url = ""
        self.xet_url = ""
        """Where the store of Xet is: `local:///folder`."""
        self._runners: list[web.AppRunner] = []
        self._closing = asyncio.Event()

    def add(self, repo_id: str, files: Mapping[str, bytes], **options: Any) -> Repo:
        self.repos[repo_id] = Repo(repo_id, dict(files), **options)
        return self.repos[repo_id]

    def sent_bytes(self, part: str) -> int:
        """What was sent of the bodies of files, over all requests whose path holds `part`."""
        return sum(request.sent_bytes for request in self.requests if part in request.path)

    async def __aenter__(self) -> Self:
        hub = web.Application()
        hub.router.add_get("/api/models", self._list)
        hub.router.add_get("/api/whoami-v2", self._whoami)
        hub.router.add_get(r"/api/models/{id:[^/]+/[^/]+}", self._info)
        hub.router.add_get(r"/api/models/{id:[^/]+/[^/]+}/revision/{revision}", self._info)
        hub.router.add_get(r"/api/models/{id:[^/]+/[^/]+}/tree/{revision}", self._tree)
        hub.router.add_get(r"/api/models/{id:[^/]+/[^/]+}/xet-read-token/{revision}", self._xet)
        hub.router.add_get(r"/{id:[^/]+/[^/]+}/resolve/{revision}/{path:.+}", self._resolve)
        store = web.Application()
        store.router.add_get("/lfs/{sha256}/{name}", self._large_file)
        self.url = await self._serve(hub)
        self.store_url = await self._serve(store)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, app: web.Application) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        self._runners.append(runner)
        listen = _LOOPBACK if self._host == _LOOPBACK else "0.0.0.0"
        site = web.TCPSite(runner, listen, 0, ssl_context=self._tls)
        await site.start()
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._host}:{runner.addresses[0][1]}"

    # --- the API

    async def _whoami(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if fault := self._fault(request):
            return await self._answered(fault)
        user, refused = self._user(request)
        if refused or user is None:
            return refused or _error(401, "", "Invalid username or password.")
        token = {"displayName": "work", "role": "read", "createdAt": "2026-01-01T00:00:00.000Z"}
        auth = {"type": "access_token", "accessToken": token}
        return web.json_response({"type": "user", "id": "1", "name": user, "auth": auth})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if fault := self._fault(request):
            return await self._answered(fault)
        asked = request.query
        user, refused = self._user(request)
        if refused:
            return refused
        said = [
            self._summary(repo, asked.getall("expand", []))
            for repo in sorted(
                self.repos.values(), key=lambda repo: -repo.facts.get("downloads", 0)
            )
            if (not repo.private or user in repo.readers)
            and asked.get("search", "").lower() in repo.id.lower()
            and asked.get("pipeline_tag") in (None, repo.facts.get("pipeline_tag"))
        ]
        start, limit = int(asked.get("cursor", 0)), int(asked.get("limit", 1000))
        headers = {}
        if start + limit < len(said):
            rest = request.url.update_query(cursor=str(start + limit))
            headers["Link"] = f'<{self.url}{rest.raw_path_qs}>; rel="next"'
        return web.json_response(said[start : start + limit], headers=headers)

    def _summary(self, repo: Repo, expand: Sequence[str]) -> dict[str, Any]:
        """A repository as lists have it: all of it, or the fields that are asked for."""
        said = {
            "sha": repo.commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "lastModified": "2026-11-01T12:30:00.000Z",
            "tags": [],
            **repo.facts,
        }
        wanted = {name: said[name] for name in expand if name in said} if expand else said
        return {"_id": repo.commit[:24], "id": repo.id, "modelId": repo.id, **wanted}

    async def _info(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if fault := self._fault(request):
            return await self._answered(fault)
        if moved := self._moved(request):
            return moved
        repo = self.repos.get(request.match_info["id"])
        if (refused := self._refused(request, repo, content=False)) or repo is None:
            return refused or web.Response(status=500)
        if request.match_info.get("revision", "main") not in ("main", repo.commit):
            return _error(404, "RevisionNotFound", "Invalid rev id")
        siblings = []
        for path, data in repo.files.items():
            sibling: dict[str, Any] = {"rfilename": path, "size": len(data)}
            sibling["blobId"] = git_sha1(data)
            if _LARGE.search(path):
                sibling["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        said = {
            "id": repo.id,
            "modelId": repo.id,
            "sha": repo.commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "lastModified": "2026-11-01T12:30:00.000Z",
            "tags": [],
            "siblings": siblings,
            **repo.facts,
        }
        etag = f'W/"{hashlib.sha1(repr(said).encode()).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.json_response(said, headers={"ETag": etag})

    async def _tree(self, request: web.Request) -> web.StreamResponse:
        """The list of all files, as the Hub's own client asks for it."""
        self._note(request)
        repo = self.repos.get(request.match_info["id"])
        if (refused := self._refused(request, repo, content=False)) or repo is None:
            return refused or web.Response(status=500)
        files = []
        for path, data in repo.files.items():
            file: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
            file["oid"] = git_sha1(data)
            if _LARGE.search(path):
                file["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
            files.append(file)
        return web.json_response(files)

    def _moved(self, request: web.Request) -> web.Response | None:
        old = request.match_info["id"]
        if old not in self.renamed:
            return None
        place = request.path_qs.replace(old, self.renamed[old], 1)
        return web.Response(status=307, headers={"Location": place})

    async def _xet(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        repo = self.repos.get(request.match_info["id"])
        if refused := self._refused(request, repo, content=True):
            return refused
        body = {"casUrl": self.xet_url, "accessToken": "t", "exp": int(time.time()) + 3600}
        return web.json_response(body)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        if moved := self._moved(request):
            return moved
        repo = self.repos.get(request.match_info["id"])
        if (refused := self._refused(request, repo, content=True)) or repo is None:
            self._note(request)
            return refused or web.Response(status=500)
        path = request.match_info["path"]
        data = repo.files.get(path)
        headers = {"X-Repo-Commit": repo.commit}
        if data is None:
            self._note(request)
            return _error(404, "EntryNotFound", "Entry not found", headers)
        if _LARGE.search(path):
            self._note(request)
            digest = sha256(data)
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            name = path.rpartition("/")[2]
            headers["Location"] = f"{self.store_url}/lfs/{digest}/{name}?sig=x%7Ey"
            if xet_hash := repo.xet.get(path):
                token_url = f"{self.url}/api/models/{repo.id}/xet-read-token/{repo.commit}"
                headers["X-Xet-Hash"] = xet_hash
                headers["Link"] = f'<{token_url}>; rel="xet-auth"'
            return web.Response(status=302, headers=headers)
        headers["ETag"] = f'"{git_sha1(data)}"'
        return await self._send(request, data, headers, large=False)

    def _user(self, request: web.Request) -> tuple[str | None, web.Response | None]:
        """Whose the token is, or what the real Hub answers to one that it does not know."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        user = TOKENS.get(token)
        if token and not user:
            return None, _error(401, "", "Invalid credentials in Authorization header")
        return user, None

    def _refused(
        self, request: web.Request, repo: Repo | None, *, content: bool
    ) -> web.Response | None:
        """What the real Hub answers to those who may not."""
        user, refused = self._user(request)
        if refused:
            return refused
        if repo is None or (repo.private and user not in repo.readers):
            if user:
                return _error(404, "RepoNotFound", "Repository not found")
            return _error(401, "RepoNotFound", "Invalid username or password.")
        if content and repo.gated and user not in repo.readers:
            return _error(403 if user else 401, "GatedRepo", f"Access to {repo.id} is restricted")
        return None

    # --- bytes

    async def _large_file(self, request: web.Request) -> web.StreamResponse:
        if "?sig=x%7Ey" not in request.raw_path:
            return web.Response(status=403, text="<Error>SignatureDoesNotMatch</Error>")
        for repo in self.repos.values():
            for data in repo.files.values():
                if sha256(data) == request.match_info["sha256"]:
                    return await self._send(request, data, {}, large=True)
        return web.Response(status=403, text="<Error>AccessDenied</Error>")

    async def _send(
        self, request: web.Request, data: bytes, headers: dict[str, str], *, large: bool
    ) -> web.StreamResponse:
        noted = self._note(request, large)
        fault = self._fault(request)
        if fault and fault.status:
            return web.Response(status=fault.status, headers=fault.headers)
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked and not (fault and fault.ignore_range):
            start, status = int(asked[1]), 206
            whole = len(data)
            if asked[2]:
                data = data[: int(asked[2]) + 1]
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{whole}"
            if start >= len(data):
                return web.Response(status=416)
        if fault and fault.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        answer = web.StreamResponse(status=status, headers=headers)
        answer.content_length = len(data) - start
        await answer.prepare(request)
        if request.method == "HEAD":
            # Its bytes would be taken for the start of the next answer.
            return answer
        for at in range(start, len(data), _BLOCK_BYTES):
            block = data[at : at + _BLOCK_BYTES]
            if fault and fault.drop_after is not None:
                block = block[: fault.drop_after - noted.sent_bytes]
            try:
                await answer.write(block)
            except ConnectionError:
                # Whoever asked has gone.
                return answer
            noted.sent_bytes += len(block)
            if fault and fault.bytes_per_s:
                await asyncio.sleep(len(block) / fault.bytes_per_s)
            if fault and fault.drop_after is not None and noted.sent_bytes >= fault.drop_after:
                assert request.transport
                request.transport.close()
                return answer
        await answer.write_eof()
        return answer

    def _note(self, request: web.Request, large: bool = False) -> Request:
        noted = Request(
            path=request.path,
            range=request.headers.get("Range"),
            authorised="Authorization" in request.headers,
            large=large,
        )
        self.requests.append(noted)
        return noted

    async def _answered(self, fault: Fault) -> web.Response:
        """What a question of the API gets; of a `silent` Hub nothing, as long as it is there."""
        if fault.silent:
            await self._closing.wait()
        status = fault.status or (500 if fault.body is None else 200)
        return web.Response(status=status, headers=fault.headers, body=fault.body)

    def _fault(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and request.method == "GET" and fault.match in request.path:
                fault.times -= 1
                return fault
        return None


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    named = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return web.Response(
        status=status,
        headers={**(headers or {}), **named},
        text=json.dumps({"error": message}),
        content_type="application/json",
    )
