# The gateway and the libraries it is linked to, on nothing: no shell, no package manager, not root.
#
#   docker build -t gapura .
#   docker run -p 8443:8443 -v "$PWD/gapura.toml:/etc/gapura/gapura.toml:ro" -e JWT_SECRET -e MASTER_KEY gapura
#
# In gapura.toml listen on "0.0.0.0:8443". Secrets come as `env:NAME` or as `file:/run/secrets/…`, never in a layer.

FROM rust:1.95-slim-bookworm AS build

# cmake, a C and a C++ compiler: aws-lc and mimalloc are built from source.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates cmake g++ make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /src
# By name, so that neither .git nor target nor somebody's secrets get into the build. Manifests list the benches.
COPY Cargo.toml Cargo.lock ./
COPY config config
COPY filters filters
COPY src src
COPY benches benches
# The caches outlive the layer; the binary has to leave them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin gapura && cp target/release/gapura /usr/local/bin/gapura

# The final image's root: the binary, what `ldd` says it needs at the same paths, and the authorities for TLS upstreams.
# glibc resolves names itself since 2.34, so no NSS modules are missing.
RUN set -eu; \
    mkdir -p /image/etc/gapura /image/etc/ssl/certs /image/usr/bin; \
    cp /usr/local/bin/gapura /image/usr/bin/; \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    ldd /usr/local/bin/gapura | grep -o '/[^ ]*' | sort -u | while read -r library; do \
      cp --dereference --parents "$library" /image; \
    done; \
    echo 'gapura:x:65532:65532::/:/nonexistent' > /image/etc/passwd; \
    echo 'gapura:x:65532:' > /image/etc/group; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch

LABEL org.opencontainers.image.title="gapura" \
      org.opencontainers.image.description="A reverse-proxy security gateway" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /image /
COPY LICENSE /usr/share/doc/gapura/LICENSE

USER 65532:65532
WORKDIR /etc/gapura
EXPOSE 8443

# Readiness is asked from outside, `GET /readyz` on the admin address: there is no curl in here to ask from within. For an
# orchestrator's probe set `admin` to an address it reaches and the public does not.
HEALTHCHECK NONE

# SIGTERM drains: running requests end, then the process does.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/gapura"]
CMD ["run", "--config", "/etc/gapura/gapura.toml"]
