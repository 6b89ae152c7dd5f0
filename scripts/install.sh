#!/usr/bin/env bash
# Brings what the examples and tests need to a Debian machine that has Rust, Node and Python. Safe to run again: what is
# there is left alone, and a second run with nothing to do takes a fraction of a second.
#
#   scripts/install.sh              what `make run` needs
#   scripts/install.sh test         also what `make test` needs
#   scripts/install.sh --browser    also Chromium, for the browser client
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'install: %s\n' "$*"; }
die() {
  printf 'install: %s\n' "$*" >&2
  exit 3
}

with_tests=false
with_browser=false
for argument in "$@"; do
  case $argument in
    test) with_tests=true ;;
    --browser) with_browser=true ;;
    *)
      echo "usage: scripts/install.sh [test] [--browser]" >&2
      exit 2
      ;;
  esac
done

# rustup's default place; a shell that never read the profile does not have it.
PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null || die "cargo is missing: install Rust with rustup, then run this again"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  die "node and npm are missing: install Node 20 or newer"
fi
command -v python3 >/dev/null || die "python3 is missing: install Python 3.11 or newer"
node_version=$(node --version) # v20.1.0
node_major=${node_version#v}
((${node_major%%.*} >= 20)) || die "Node 20 or newer is needed, this is $node_version"
# One start of Python for both questions. Debian ships venv without pip inside: can a venv be made at all?
read -r python_version python_minor python_venv < <(python3 -c '
import importlib.util as find, sys
major, minor, patch = sys.version_info[:3]
print(f"{major}.{minor}.{patch}", minor, find.find_spec("venv") is not None and find.find_spec("ensurepip") is not None)')
((python_minor >= 11)) || die "Python 3.11 or newer is needed, this is $python_version"

# Two at once (`make run` beside `make test`) take turns; the kernel drops the lock however this process ends.
mkdir -p target
exec 9>target/.install.lock
flock --nonblock 9 || {
  say "waiting for another install to finish"
  flock 9
}

# --- Debian packages: command -> package ----------------------------------------------------------------

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cc gcc # the linker, and the C of aws-lc and mimalloc
need c++ g++
need cmake cmake
need make make
need curl curl
if $with_tests; then
  need nghttp nghttp2-client # HTTP/2 frames by hand
  need openssl openssl
  need redis-server redis-server
  # Debian keeps its programs out of the path.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
fi
if $with_browser; then
  need chromium chromium
fi
[[ $python_venv == True ]] || missing+=(python3-venv)

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

policy=/usr/sbin/policy-rc.d
install_packages() {
  command -v apt-get >/dev/null || die "missing: $*. This is no Debian; install them by its own means"
  ((EUID == 0)) || command -v sudo >/dev/null || die "missing: $*. Neither root nor sudo here; as root: apt-get install $*"
  say "apt: $*"
  # Packages of servers start them at once; 101 tells Debian's scripts not to. A policy that is already there is respected.
  if [[ ! -e $policy ]]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 0755 "$policy"
  fi
  as_root apt-get update --quiet --quiet
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends "$@"
  if [[ -n $(trap -p EXIT) ]]; then
    as_root rm -f "$policy"
    trap - EXIT
  fi
}
((${#missing[@]} == 0)) || install_packages "${missing[@]}"

# --- Python and Node packages -------------------------------------------------------------------------

# A stamp names what an installation was made from. It is written last, so an interrupted one is made again.
digest() { sha256sum -- "$@" | sha256sum | cut -d' ' -f1; }

python_packages() {
  local files=(examples/fastapi/requirements.txt) stamp arguments=() file
  [[ ! -e tests/requirements.txt ]] || files+=(tests/requirements.txt)
  stamp="$python_version $PWD $(digest "${files[@]}")" # a venv knows its own path: a moved one is made anew
  [[ "$(cat .venv/.stamp 2>/dev/null)" != "$stamp" ]] || return 0
  say "python: .venv from ${files[*]}"
  python3 -m venv --clear .venv
  for file in "${files[@]}"; do arguments+=(--requirement "$file"); done
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input "${arguments[@]}"
  printf '%s' "$stamp" >.venv/.stamp
}

node_packages() {
  local folder=$1 stamp
  [[ -e $folder/package-lock.json ]] || return 0
  stamp="$node_version $(digest "$folder/package.json" "$folder/package-lock.json")"
  [[ "$(cat "$folder/node_modules/.stamp" 2>/dev/null)" != "$stamp" ]] || return 0
  say "node: $folder"
  # No package here needs an install script, so none may run one.
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
  mkdir -p "$folder/node_modules" # npm leaves none when there is nothing to install
  printf '%s' "$stamp" >"$folder/node_modules/.stamp"
}

# The package `gapura` that examples and tests import, from its TypeScript. A type error ends this.
client_package() {
  local stamp built=clients/js/dist/.stamp
  stamp=$(digest clients/js/src/*.ts clients/js/package-lock.json clients/js/package.json clients/js/tsconfig.json)
  [[ "$(cat "$built" 2>/dev/null)" != "$stamp" ]] || return 0
  say "build: clients/js"
  rm -rf clients/js/dist
  npm run build --prefix clients/js --silent
  printf '%s' "$stamp" >"$built"
}

python_packages
for folder in clients/js examples/express examples/clients/node tests/node; do
  node_packages "$folder"
done
client_package
say "ready"
