# What a contributor runs. `make` alone lists it.

CARGO   ?= cargo
VECTORS ?= ../shared/vectors

.DEFAULT_GOAL := help
.PHONY: help run test test-vectors test-model bench fmt lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, put the gateway before the FastAPI example, show one sealed payment from three sides
	@scripts/run-demo.sh

# One profile throughout (dev): what clippy and the tests compile, `make run` finds compiled.
test: ## everything that must hold before a commit
	scripts/install.sh test --browser
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked --workspace
	.venv/bin/python tests/vectors/envelopes/generate.py --check
	cd clients/python && ../../.venv/bin/mypy && ../../.venv/bin/python -m unittest discover -t . -s tests
	node --test examples/apps.test.mjs examples/clients/node/client.test.js clients/js/test/*.test.mjs examples/clients/clients.test.mjs

# Vectors that nobody here wrote. A target of its own, so that their absence fails loudly here and nowhere else.
test-vectors: ## published test vectors, from VECTORS=../shared/vectors
	GAPURA_VECTORS='$(abspath $(VECTORS))' $(CARGO) test --locked -p gapura --test vectors -- --ignored --nocapture

# A folder of its own: with other flags everything is built anew.
test-model: ## every interleaving of two requests at the limiter's store (loom)
	RUSTFLAGS='--cfg model' CARGO_TARGET_DIR=target/model $(CARGO) test --locked -p gapura-filters --lib memory::model

bench: ## criterion benchmarks (release profile)
	$(CARGO) bench --locked --workspace

fmt: ## format the Rust sources
	$(CARGO) fmt --all

lint: ## formatting, clippy; shellcheck and cargo-deny where they are installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) check --locked --package gapura --no-default-features
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; else echo "lint: no shellcheck here, skipped"; fi
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check; else echo "lint: no cargo-deny here, skipped"; fi

clean: ## remove what building and installing made
	$(CARGO) clean
	rm -rf .venv examples/express/node_modules examples/clients/node/node_modules tests/node/node_modules clients/js/node_modules clients/js/dist clients/python/.mypy_cache
