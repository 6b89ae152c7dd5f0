#!/usr/bin/env bash
# `make run`: builds the gateway, puts it in front of the unchanged FastAPI example, and shows one sealed payment from three
# sides. Then it stays up until Ctrl-C.
#
#   GAPURA_DEMO_ONCE=1    ends after the demonstration, having run the printed commands itself; 0 only if all was right
#   GAPURA_BIN=/path      this gateway instead of a fresh build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/install.sh
PATH=$PATH:$HOME/.cargo/bin
if [[ -z ${GAPURA_BIN:-} ]]; then
  echo "demo: building (the first time takes minutes, then seconds)"
  cargo build --locked --bin gapura
  GAPURA_BIN=${CARGO_TARGET_DIR:-target}/debug/gapura
fi
[[ -x $GAPURA_BIN ]] || {
  echo "demo: no gateway at $GAPURA_BIN" >&2
  exit 1
}
GAPURA_BIN=$(realpath "$GAPURA_BIN")
export GAPURA_BIN
# exec: a signal to this process reaches the one that has to stop the others.
exec node scripts/demo/demo.mjs
