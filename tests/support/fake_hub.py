"""The part of the hub's protocol that a download speaks, over one folder: real client, no network."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(folder: Path, repo: str = "org/tiny", *, kind: str = "models") -> Iterator[str]:
    """Serve `folder` as `repo`, whose branch main is at COMMIT; yields the endpoint for HF_ENDPOINT.

    `kind` is "models" or "datasets".
    """
    place = repo if kind == "models" else f"{kind}/{repo}"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            if re.fullmatch(rf"/api/{kind}/{repo}(/revision/(main|{COMMIT}))?", path):
                siblings = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                self._send(json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings, "tags": []}).encode(), {}, body)
            elif re.fullmatch(rf"/api/{kind}/{repo}/tree/{COMMIT}", path):
                files = [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40}
                    for f in folder.iterdir()
                ]
                self._send(json.dumps(files).encode(), {}, body)
            elif (match := re.fullmatch(rf"/{place}/resolve/{COMMIT}/([\w.]+)", path)) and (
                folder / match[1]
            ).is_file():
                content = (folder / match[1]).read_bytes()
                etag = hashlib.sha256(content).hexdigest()
                self._send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
            else:
                self.send_response(404)
                missing = "Revision" if f"/{repo}/revision" in path else "Entry" if COMMIT in path else "Repo"
                self.send_header("X-Error-Code", f"{missing}NotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
