"""Whether what packaging/root.sh has made works by itself: `python3 packaging/check.py target/image`.

It runs as root, for it goes into the folder with chroot, as a user who may write nothing there. The
names that it looks up are in /etc/hosts and in a name server of this script; the certificate of the
upstream is of an authority of this script, which the folder's roots do not hold at first. It needs
python3 and openssl.
"""

import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

USER = 65532
NAME = "upstream.test"
# How large the program may be, in bytes.
LARGEST = 20_000_000


def main():
    if os.getuid() != 0:
        sys.exit("chroot needs root")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        tree = folder / "root"
        shutil.copytree(sys.argv[1], tree)
        os.chown(tree / "var/lib/qwen-proxy", USER, USER)
        # What any runtime of containers gives; a static program reads random bytes there.
        (tree / "dev").mkdir()
        for name, minor in [("null", 3), ("random", 8), ("urandom", 9)]:
            device = tree / "dev" / name
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            device.chmod(0o666)
        Check(folder, tree).run()


class Check:
    def __init__(self, folder, tree):
        self.folder = folder
        self.tree = tree

    def proxy(self, *args, **env):
        """The program in the folder, started."""
        env = {"HOME": "/var/lib/qwen-proxy", "RUST_LOG": "info", **env}
        tree, cwd = str(self.tree), "/"
        return subprocess.Popen(
            ["/usr/bin/proxy", *args],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: enter(tree, cwd),
        )

    def ended(self, *args, **env):
        """The code and the words of the program, run to its end."""
        process = self.proxy(*args, **env)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def run(self):
        linked = subprocess.run(
            ["ldd", self.tree / "usr/bin/proxy"], capture_output=True, text=True, check=False
        )
        words = linked.stdout + linked.stderr
        assert "statically linked" in words or "not a dynamic" in words, words
        size = (self.tree / "usr/bin/proxy").stat().st_size
        assert size <= LARGEST, f"{size} bytes are more than {LARGEST}"
        code, said = self.ended("--version")
        assert (code, said.split()[0]) == (0, "proxy"), (code, said)
        print(f"static: {said.strip()}, {size} bytes")
        self.serves()
        server = Upstream(self.folder)
        self.names(server)
        self.roots(server)

    def serves(self):
        port = free_port()
        process = self.proxy(QWEN_PROXY_LISTEN=f"0.0.0.0:{port}")
        try:
            deadline = time.monotonic() + 20
            while True:
                code, said = self.ended("health", QWEN_PROXY_LISTEN=f"0.0.0.0:{port}")
                if code == 0:
                    break
                assert time.monotonic() < deadline, said
            assert said == "healthy\n", said
        finally:
            process.terminate()
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 0, said
        left = [path for path in (self.tree / "var/lib/qwen-proxy").iterdir()]
        assert not left, left
        print("serves, is healthy, ends with 0, writes nothing")

    def asks(self, server, scheme):
        """`proxy check` of an upstream that is known by its name alone."""
        url = f"{scheme}://{NAME}:{server.ports[scheme]}/v1"
        return self.ended(
            "check", "--upstream", "compatible", "--base-url", url, "--retries", "0", QWEN_API_KEY="sk-x"
        )

    def names(self, server):
        etc = self.tree / "etc"
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        code, said = self.asks(server, "http")
        assert code != 0, f"nobody knows the name yet: {said}"
        (etc / "hosts").write_text(f"127.0.0.1 {NAME}\n")
        code, said = self.asks(server, "http")
        assert code == 0, said
        print("names: by /etc/hosts")
        (etc / "hosts").unlink()
        serve_names()
        code, said = self.asks(server, "http")
        assert code == 0, said
        print("names: by DNS")

    def roots(self, server):
        code, said = self.asks(server, "https")
        assert code != 0, f"the authority is not known: {said}"
        with open(self.tree / "etc/ssl/certs/ca-certificates.crt", "a", encoding="ascii") as roots:
            roots.write((self.folder / "ca.pem").read_text())
        code, said = self.asks(server, "https")
        assert code == 0, said
        print("roots: an unknown authority is refused, one in the file is trusted")


def enter(tree, cwd):
    os.chroot(tree)
    os.chdir(cwd)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Models(http.server.BaseHTTPRequestHandler):
    """An upstream that has a list of models, and nothing else."""

    def do_GET(self):
        body = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Upstream:
    """It serves by HTTP and by HTTPS, with a certificate of an authority of its own."""

    def __init__(self, folder):
        certificates(folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.ports = {}
        for scheme in ["http", "https"]:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models)
            if scheme == "https":
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            self.ports[scheme] = server.server_address[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()


def certificates(folder):
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=An authority of this check",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
    )
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={NAME}")
    (folder / "server.ext").write_text(
        f"subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
    )
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "server.ext",
    )


def serve_names():
    """A name server on this machine, which knows one name and has no addresses of IPv6."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 53))

    def answer():
        while True:
            query, client = listener.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12 : at + 5]
            (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
            is_known = ".".join(labels).lower() == NAME
            has_one = is_known and kind == 1
            flags = 0x8180 if is_known else 0x8183
            head = query[:2] + struct.pack("!HHHHH", flags, 1, int(has_one), 0, 0)
            record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
            listener.sendto(head + question + (record if has_one else b""), client)

    threading.Thread(target=answer, daemon=True).start()


if __name__ == "__main__":
    main()
