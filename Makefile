# Everything a developer or CI runs, callable stage by stage; `make test` is what must be green.
#
#   make test        all stages below, in order; stops at the first red one, prints the time of each
#   make STAGE       one of them: setup fmt tidy clippy clippy-loom bare package unit doc rustdoc
#                    loom corpus instructions smoke stress
#   make docs        brings the tables in docs/ up to date with the code
#   make bench       our release binary and redis-server side by side (python3 benches/side_by_side --help)
#   make crash       500 rounds of kill -9 and restart
#   make store-crash the same for the store alone, and every system call failing in turn
#   make soak        ten times its memory in a cache for ten minutes (SOAK_SECONDS, SOAK_MIB)
#   make bench-cache the disk cache beside the raw engine (CACHE_BENCH: arguments)
#   make simulation  the table of the scaling policy in the README of iothreads (BLESS=1 writes it)
#   make bench-rivals the disk cache beside foyer, moka and quick_cache
#   make loom-3      the loom models with three preemptions: thorough and slow
#   make shuttle     random schedules of more threads than loom can exhaust
#   make histories   tens of thousands of histories of real threads checked for being linearizable
#   make miri, tsan  the queues under Miri and the thread sanitizer, where nightly has them
#
# Variables: CARGO_BUILD_JOBS, LOOM_PREEMPTIONS (default 2), BENCH (arguments of side_by_side),
#            ROUNDS (of kill -9 in make smoke, default 20), CACHE_BENCH, SOAK_SECONDS, SOAK_MIB.

SHELL := /bin/bash
CARGO ?= cargo
BENCH ?=
ROUNDS ?= 20
CACHE_BENCH ?=
SOAK_SECONDS ?= 600
SOAK_MIB ?= 64

STAGES := setup fmt tidy clippy clippy-loom bare package unit doc rustdoc loom corpus \
	instructions smoke stress

# Crates with loom models: their tests/loom_*.rs and whatever their unit tests hold under cfg(loom).
LOOM_CRATES := queues iothreads
LOOM_PREEMPTIONS ?= 2
STRESS_CRATES := queues iothreads server
LOOM_ENV = RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=$(LOOM_PREEMPTIONS) \
	CARGO_TARGET_DIR=target/loom

# fuzz/ is a workspace of its own, but what it is built from need not be built twice: its lock file
# and profiles follow the main ones.
FUZZ = CARGO_TARGET_DIR=target $(CARGO)

PUBLISHED := queues iothreads diskcache server
# What a package may hold; anything else got in by accident.
PACKED := ^(src|tests|docs|examples)/.*\.(rs|md|py|mjs|txt|json|conf)$$|^(README\.md|LICENSE-[A-Z]+)$$|^(Cargo\..*|\.cargo_vcs_info\.json)$$

# Where pinned clients of other languages are installed; see .ci/setup.
TOOLS := target/tools
PYTHON := $(TOOLS)/venv/bin/python
SMOKE := crates/server/tests/smoke

PAGES := command::docs config::reference

.PHONY: all test $(STAGES) docs bench crash loom-3 simulation release store-crash
.PHONY: shuttle histories miri tsan
.PHONY: soak bench-cache bench-rivals
all: release

release:
	$(CARGO) build --release

test:
	@set -o pipefail; all=$$(date +%s); times=""; \
	for stage in $(STAGES); do \
		echo "=== $$stage"; begin=$$(date +%s); \
		$(MAKE) --no-print-directory $$stage || { echo "=== $$stage: RED"; exit 1; }; \
		took=$$(( $$(date +%s) - begin )); times+="$$stage $$took s, "; \
		echo "=== $$stage: green after $$took s"; \
	done; \
	echo "=== all green after $$(( $$(date +%s) - all )) s: $${times%, }"

# Debian packages, the Python environment and the node packages, all pinned.
setup:
	bash .ci/setup $(TOOLS)

fmt:
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check
	$(CARGO) fmt --manifest-path benches/rivals/Cargo.toml -- --check

tidy:
	$(CARGO) test -q -p flintlock-benches --test tidy

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(FUZZ) clippy --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings

clippy-loom:
	@for crate in $(LOOM_CRATES); do \
		$(LOOM_ENV) $(CARGO) clippy -p flintlock-$$crate --all-targets -- -D warnings || exit 1; \
	done

# The queues without std: a program that is linked and runs without it; and, where the toolchain can,
# a check without an operating system and without 64-bit atomics.
BARE := thumbv7em-none-eabi
bare:
	RUSTFLAGS="-C panic=abort" CARGO_TARGET_DIR=target/bare \
		$(CARGO) run -q --release -p flintlock-queues --example bare
	@if [ -e "$$(rustc --print sysroot)/lib/rustlib/$(BARE)" ]; then \
		$(CARGO) check -p flintlock-queues --target $(BARE); \
	else echo "skipped: the toolchain has no target $(BARE)"; fi

# The crates package cleanly: cargo lists what it would publish, and nothing strange is in it.
package:
	@for crate in $(PUBLISHED); do \
		list=$$($(CARGO) package --list --allow-dirty -p flintlock-$$crate 2>/dev/null) || exit 1; \
		if echo "$$list" | grep -vE '$(PACKED)'; then \
			echo "package: the files above do not belong into flintlock-$$crate"; exit 1; \
		fi; \
	done

# Unit, model, fault and black-box tests. nextest gives each test a process and a time limit; where
# it is missing, cargo's own runner does.
unit:
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --no-fail-fast --show-progress none \
			--status-level slow --final-status-level slow; \
	else \
		$(CARGO) test --workspace --lib --bins --tests --no-fail-fast; \
	fi

doc:
	$(CARGO) test --workspace --doc

# The same tests compare when they run in `unit`.
docs:
	@for page in $(PAGES); do \
		FLINTLOCK_BLESS=1 $(CARGO) test -q -p flintlock-server --lib $$page || exit 1; \
	done

rustdoc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

loom:
	@for crate in $(LOOM_CRATES); do \
		models=$$(cd crates/$$crate && ls tests/loom_*.rs 2>/dev/null \
			| sed 's|tests/\(.*\)\.rs|--test \1|'); \
		echo "loom: $$crate, $(LOOM_PREEMPTIONS) preemptions"; \
		$(LOOM_ENV) $(CARGO) test --profile loom -p flintlock-$$crate --lib $$models || exit 1; \
	done

loom-3: LOOM_PREEMPTIONS = 3
loom-3: loom

# The scaling policy over minutes and up to 64 cores; BLESS=1 brings the README up to date.
simulation:
	$(if $(BLESS),FLINTLOCK_BLESS=1) $(CARGO) test --profile loom -p flintlock-iothreads \
		--test simulation -- --include-ignored --nocapture prints

# Instructions of our queues and of an idle worker under callgrind, to a few percent; BLESS=1
# takes them as the new bounds.
instructions:
	$(CARGO) build --release -p flintlock-benches --bin queue_instructions --bin pool_instructions
	target/release/queue_instructions $(if $(BLESS),--bless,--check)
	target/release/pool_instructions $(if $(BLESS),--bless,--check)

# Sequentially consistent, but up to seven threads: finds errors of logic. SHUTTLE_SCHEDULES=N for more.
shuttle:
	RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle \
		$(CARGO) test --profile loom -p flintlock-queues --test shuttle

histories:
	$(CARGO) test --profile loom -p flintlock-queues --test linearizable -- --include-ignored

# Undefined behaviour and weak memory in the real code, in few and small cases: Miri is slow.
miri:
	@if $(CARGO) +nightly miri --version >/dev/null 2>&1; then \
		MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-strict-provenance" \
		PROPTEST_CASES=4 STRESS_ITEMS=200 CARGO_TARGET_DIR=target/miri \
		$(CARGO) +nightly miri test -p flintlock-queues --lib --test bad_use --test hostile \
			--test model --test tagged --test stress -- --include-ignored; \
	else echo "skipped: miri is no part of a nightly toolchain here"; fi

# Best with a standard library that is instrumented too, built from its source where nightly has it;
# otherwise what is reported of that library is suppressed, and unit tests, which use its locks, are
# left out.
NIGHTLY = $(shell rustc +nightly --print sysroot 2>/dev/null)
NIGHTLY_HOST = $(shell rustc +nightly -vV 2>/dev/null | sed -n 's/^host: //p')
tsan:
	@runtime="$(NIGHTLY)/lib/rustlib/$(NIGHTLY_HOST)/lib/librustc-nightly_rt.tsan.a"; \
	if [ ! -e "$$runtime" ]; then \
		echo "skipped: tsan: there is no nightly toolchain with the sanitizer's runtime"; exit; \
	fi; \
	export RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=target/tsan; \
	export STRESS_ITEMS=$${STRESS_ITEMS:-100000}; \
	if [ -e "$(NIGHTLY)/lib/rustlib/src/rust/library/Cargo.lock" ]; then \
		more="-Zbuild-std --lib"; \
	else \
		RUSTFLAGS+=" -Cunsafe-allow-abi-mismatch=sanitizer"; \
		export TSAN_OPTIONS="suppressions=$(CURDIR)/crates/queues/tests/tsan.txt"; \
	fi; \
	$(CARGO) +nightly test $$more --target $(NIGHTLY_HOST) --profile loom -p flintlock-queues \
		--test stress -- --include-ignored --test-threads=1

# The bodies of the fuzz targets on stable Rust: committed inputs and mutations of them.
corpus:
	$(FUZZ) test --manifest-path fuzz/Cargo.toml

# The long tests that are marked #[ignore] because real threads take their time, in tests/stress.rs
# or beside the code: optimised, with the assertions kept. That none is found is no success.
stress:
	@set -o pipefail; for crate in $(STRESS_CRATES); do \
		more=$$([ -e crates/$$crate/tests/stress.rs ] && echo --test stress); \
		$(CARGO) test --profile loom -p flintlock-$$crate --lib $$more -- --ignored \
			--test-threads=1 stress_ || exit 1; \
	done | tee target/stress.log; \
	grep -q 'stress_.* ok$$' target/stress.log

# Real clients (redis-py, ioredis, node-redis, redis-cli, redis-benchmark) and rounds of kill -9
# against the release binary.
smoke: release setup
	$(PYTHON) $(SMOKE)/run.py --tools $(TOOLS) --rounds $(ROUNDS)

crash: release setup
	$(PYTHON) $(SMOKE)/run.py --tools $(TOOLS) --only crash --rounds 500

# The same for the store alone: 500 rounds of kill -9, then every system call failing in turn (with
# strace, where it is installed).
store-crash:
	FLINTLOCK_KILL_ROUNDS=500 $(CARGO) test --release -p flintlock-diskcache --test process \
		--test disk_cache_process -- --test-threads=1

# Memory of the process is sampled each second and must stay within the limit.
soak:
	FLINTLOCK_SOAK_SECONDS=$(SOAK_SECONDS) FLINTLOCK_SOAK_MIB=$(SOAK_MIB) $(CARGO) test --release \
		-p flintlock-diskcache --test disk_cache_process -- --nocapture ten_times

bench: release
	$(CARGO) build --release -p flintlock-benches --bin paced
	python3 benches/side_by_side $(BENCH)

bench-cache:
	$(CARGO) bench -p flintlock-benches --bench cache -- $(CACHE_BENCH)

# A workspace of its own, so that nothing else has to build foyer.
bench-rivals:
	CARGO_TARGET_DIR=target/rivals $(CARGO) run --release \
		--manifest-path benches/rivals/Cargo.toml
