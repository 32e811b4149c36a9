#!/usr/bin/env bash
# Makes target/image: the proxy, linked statically, with what it needs of a system. It needs a Rust
# toolchain, a C compiler and the root certificates of the machine (Debian: ca-certificates).
#
#   FEATURES=redis,redis/tokio-rustls-comp bash packaging/root.sh     which features it has; redis by default
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
roots=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ -r "$roots" ] || { echo "no root certificates at $roots: install ca-certificates" >&2; exit 1; }

# With a target, so that what only runs while it is built is linked as usual. A static program may be loaded
# anywhere too, and the list of what is to be changed then takes 600 KB unless it is packed; glibc reads that
# since 2.36.
RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs' cargo build --locked --profile dist --target "$host" \
    --features "${FEATURES-redis}" --example proxy

tree=target/image
rm -rf "$tree"
install -D -m 755 "target/$host/dist/examples/proxy" "$tree/usr/bin/proxy"
install -D -m 644 "$roots" "$tree/etc/ssl/certs/ca-certificates.crt"
# glibc reads names in this order; a static program has both readers in it.
printf 'hosts: files dns\n' >"$tree/etc/nsswitch.conf"
printf 'proxy:x:65532:65532::/var/lib/qwen-proxy:/nonexistent\n' >"$tree/etc/passwd"
printf 'proxy:x:65532:\n' >"$tree/etc/group"
install -d -m 700 "$tree/var/lib/qwen-proxy"
if [ "$(id -u)" = 0 ]; then chown 65532:65532 "$tree/var/lib/qwen-proxy"; fi
du -sh "$tree/usr/bin/proxy" "$tree"
