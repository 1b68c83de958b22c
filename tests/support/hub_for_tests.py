"""A Hugging Face Hub of one's own: the part of its HTTP interface that uploads and downloads need.

Repositories lie in memory. Tokens: "write" owns everything, "read" may only look. Large files come by Git
LFS: clients must set HF_HUB_DISABLE_XET.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

_REPOSITORY = r"/api/models/(?P<name>[^/]+/[^/]+)"


@dataclass
class HubRepository:
    """Files of every commit, by commit; the newest is `main`."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def files(self, revision: str) -> dict[str, bytes] | None:
        if revision == "main":
            return list(self.commits.values())[-1] if self.commits else {}
        return self.commits.get(revision)

    @property
    def head(self) -> str:
        return list(self.commits)[-1] if self.commits else "0" * 40

    def commit(self, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = {**(self.files("main") or {}), **files}
        return name


@dataclass
class FakeHub:
    """The state behind the server, and what it was asked."""

    url: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, self.path)
            if found and self.command in method:
                answer(self, **found.groupdict())
                return
        self._send(404, {"error": "no such route"})

    @property
    def token(self) -> str:
        return str(self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _send(self, status: int, value: Any = None, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        if status >= 400 and isinstance(value, dict):
            headers |= {"X-Error-Message": value["error"]}
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _repository(self, name: str) -> HubRepository | None:
        """One that the token may see; answers otherwise."""
        if self.token not in ("", "read", "write"):
            self._send(401, {"error": "Invalid credentials in Authorization header"})
            return None
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.token):
            self._send(404 if self.token else 401, {"error": "Not found"}, X_Error_Code="RepoNotFound")
            return None
        return found

    def _may_write(self) -> bool:
        if self.token == "write":
            return True
        known = self.token == "read"
        self._send(403 if known else 401, {"error": "Forbidden: pass a token with write rights" if known
                   else "Invalid credentials in Authorization header"})  # fmt: skip
        return False

    def alive(self) -> None:
        self._send(200, {})

    def create(self) -> None:
        if not self._may_write():
            return
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created it", "url": f"{self.hub.url}/{name}"})
            return
        private = asked.get("private", asked.get("visibility") == "private")
        self.hub.repositories[name] = HubRepository(private=private)
        self._send(200, {"url": f"{self.hub.url}/{name}"})

    def info(self, name: str, revision: str = "main") -> None:
        found = self._repository(name)
        if found is None:
            return
        files = found.files(revision)
        siblings = [{"rfilename": file} for file in files or {}]
        self._send(200, {"id": name, "private": found.private, "sha": found.head, "siblings": siblings})

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        known = content.startswith("---\n")
        self._send(200, {"errors": [] if known else [{"message": "no metadata"}], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        if self._repository(name) is None or not self._may_write():
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._send(200, {"files": files, "commitOid": self.hub.repositories[name].head})

    def batch(self, name: str) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/blobs/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def blob(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.blobs[oid] = self.body
        self._send(200, {})

    def commit(self, name: str, revision: str) -> None:
        found = self._repository(name)
        if found is None or not self._may_write():
            return
        files = {}
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        oid = found.commit(files)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        self._send(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def resolve(self, name: str, revision: str, file: str) -> None:
        found = self._repository(name)
        if found is None:
            return
        files = found.files(revision)
        if files is None:
            self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        elif file not in files:
            self._send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        else:
            commit = found.head if revision == "main" else revision
            etag = f'"{hashlib.sha256(files[file]).hexdigest()}"'
            self._send(200, files[file], X_Repo_Commit=commit, ETag=etag)


_ROUTES = [
    (("HEAD", "GET"), "/", _Handler.alive),
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("GET",), _REPOSITORY, _Handler.info),
    (("GET",), _REPOSITORY + r"/revision/(?P<revision>.+)", _Handler.info),
    (("POST",), _REPOSITORY + r"/preupload/(?P<revision>.+)", _Handler.preupload),
    (("POST",), _REPOSITORY + r"/commit/(?P<revision>.+)", _Handler.commit),
    (("POST",), r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), r"/blobs/(?P<oid>[0-9a-f]{64})", _Handler.blob),
    (("HEAD", "GET"), r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Handler.resolve),
]  # fmt: skip


def redirected(patch: pytest.MonkeyPatch, url: str, cache: Path, token: str | None) -> None:
    """Have the Hub's client in this process ask the Hub at `url`."""
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.delenv("HF_TOKEN", raising=False)
    patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A Hub on a free port of this machine."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
