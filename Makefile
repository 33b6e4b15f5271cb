# The project's commands. `make` without a target lists them.

TARGET := $(or $(CARGO_TARGET_DIR),target)
WASM := $(TARGET)/wasm32-wasip1/filter/mesh_authz.wasm
NOOP := $(TARGET)/bench/noop.wasm
CARGO := cargo
ENVOY_VERSIONS := 1.36.4 1.38.2 1.40.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: first-build dist/mesh_authz.wasm ## Run the demo: a real Envoy allows and refuses requests; works on a bare machine
	$(CARGO) build --locked --package mesh-authz-demo
	$(CARGO) run --locked --quiet --package mesh-authz-demo

.PHONY: run
run: first-build dist/mesh_authz.wasm ## Keep the demo's Envoys running, and print curl commands to try
	$(CARGO) build --locked --package mesh-authz-demo
	$(CARGO) run --locked --quiet --package mesh-authz-demo -- --keep-running

.PHONY: day
day: first-build dist/mesh_authz.wasm ## Send a day of traffic through the demo's mesh, and log it: examples/replay/day.log.gz
	$(CARGO) build --locked --package mesh-authz-demo
	$(CARGO) run --locked --quiet --package mesh-authz-demo -- --day examples/replay/day.log.gz

# Docker's own plugin where it is there, or else docker-compose.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose) \
	--project-name mesh-authz --file envoy/docker-compose.yaml
MESH := target/compose
OF_BACKEND := --namespace default --label app=backend

.PHONY: compose
compose: build ## Start the demo's mesh in containers by docker-compose, and send its requests: docs/docker-compose.md
	@command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || { \
		echo "docker-compose is missing: https://docs.docker.com/compose/install" >&2; exit 1; }
	$(CARGO) build --locked --package mesh-authz-demo
	$(CARGO) run --locked --quiet --package mesh-authz-demo -- --compose-files
	$(TARGET)/release/mesh-authz render envoy $(MESH)/policies $(OF_BACKEND) --listen 0.0.0.0:15006 --watch policies/watched.yaml \
		--certificate certs/own.crt --key certs/own.key > $(MESH)/backend/envoy.yaml
	$(TARGET)/release/mesh-authz render ecds $(MESH)/policies $(OF_BACKEND) --output $(MESH)/backend/policies/watched.yaml
	chmod -R a+rX $(MESH)
	$(COMPOSE) up --detach --force-recreate
	$(CARGO) run --locked --quiet --package mesh-authz-demo -- --compose $(COMPOSE)

.PHONY: compose-login
compose-login: build ## Start a login in front of an application in containers: docs/docker-compose.md
	$(CARGO) run --locked --quiet --package mesh-authz-demo -- --compose-login-files
	$(TARGET)/release/mesh-authz render envoy examples/login --namespace shop --label app=orders --plaintext \
		--listen 0.0.0.0:15006 > $(MESH)/orders/envoy.yaml
	chmod -R a+rX $(MESH)
	$(COMPOSE) --profile login up --detach --force-recreate orders orders-application oauth2-proxy openid

.PHONY: compose-redis
compose-redis: build ## Start a Redis server behind the filter in containers: docs/docker-compose.md
	$(CARGO) run --locked --quiet --package mesh-authz-demo -- --compose-redis-files
	$(TARGET)/release/mesh-authz render envoy examples/redis --namespace default --label app=sessions \
		--listen-tcp 0.0.0.0:6379 --upstream 127.0.0.1:6380 --certificate certs/own.crt --key certs/own.key \
		> $(MESH)/sessions/envoy.yaml
	chmod -R a+rX $(MESH)
	$(COMPOSE) --profile redis up --detach --force-recreate sessions redis shop redis-stranger

.PHONY: compose-down
compose-down: ## End what `make compose`, `make compose-login` and `make compose-redis` have started
	$(COMPOSE) --profile login --profile redis down

.PHONY: first-build
first-build:
	@test -e dist/mesh_authz.wasm || echo "The first build takes some minutes: it compiles the filter and the demo, then it installs an Envoy."

.PHONY: test
test: lint dist/mesh_authz.wasm ## Run all tests: format, lints, tables, properties, golden files, and requests in a real Envoy
	$(CARGO) test --locked --workspace

.PHONY: login
login: dist/mesh_authz.wasm ## Log in to examples/login in a real Envoy, by oauth2-proxy and a small OpenID provider; needs Go
	tests/login/run.sh

.PHONY: redis
redis: dist/mesh_authz.wasm ## Put the filter in front of a real Redis server, examples/redis; needs redis-server
	tests/redis/run.sh

.PHONY: quick
quick: ## The checks for while you work: format, clippy, the language's tables, lints, cases; no Envoy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- --deny warnings
	$(CARGO) test --locked --quiet --package mesh-authz --test language
	$(CARGO) test --locked --quiet --package mesh-authz-cli --test cases --test commands --test lint

.PHONY: lint
lint: wasm-target ## Check the format and run clippy, natively and for the filter's target
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --locked --package mesh-authz-istio --test istio -- --deny warnings
	$(CARGO) clippy --locked --package mesh-authz --lib --target wasm32-wasip1 -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --package mesh-authz --no-deps --quiet
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --package mesh-authz-cli --no-deps --document-private-items --quiet

.PHONY: build
build: dist/mesh_authz.wasm ## Build the filter, dist/mesh_authz.wasm, and the command, target/release/mesh-authz
	$(CARGO) build --locked --package mesh-authz-cli --release

# Always runs Cargo, which knows what is out of date. The file changes only if the filter changes.
dist/mesh_authz.wasm: wasm-target FORCE
	$(CARGO) build --locked --package mesh-authz --profile filter --lib --target wasm32-wasip1
	@mkdir -p dist
	$(CARGO) run --locked --package strip-exports -- $(WASM) $@

VERSION = $(shell $(CARGO) pkgid --locked --package mesh-authz | sed 's/.*[\#@]//')

.PHONY: image
image: dist/mesh_authz.wasm ## Make dist/image, an OCI layout for Istio, and dist/sbom.cdx.json; no container engine
	$(CARGO) tree --locked --package mesh-authz --edges normal,no-proc-macro --target wasm32-wasip1 --prefix none --no-dedupe \
		--format '{p}	{l}' > $(TARGET)/crates.txt
	$(CARGO) run --locked --quiet --package pack-image -- $< $(TARGET)/crates.txt $(VERSION) dist

.PHONY: version
version: ## Print the version
	@echo $(VERSION)

# Static programs: they run on every Linux of that processor. The linker is Rust's own, which links for every processor.
RELEASE_TARGETS := x86_64-unknown-linux-musl aarch64-unknown-linux-musl
RELEASE := dist/release

.PHONY: release
release: image ## Make all files of a release in dist/release, with their checksums; static programs for x86-64 and Arm
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	for target in $(RELEASE_TARGETS); do \
		test -d "$$(rustc --print sysroot)/lib/rustlib/$$target" || rustup target add $$target || exit 1; \
		env CARGO_TARGET_$$(echo $$target | tr a-z- A-Z_)_LINKER=rust-lld \
			$(CARGO) build --locked --package mesh-authz-cli --release --target $$target || exit 1; \
		cp $(TARGET)/$$target/release/mesh-authz $(RELEASE)/mesh-authz-$(VERSION)-$$target || exit 1; \
	done
	cp dist/mesh_authz.wasm $(RELEASE)/mesh-authz-$(VERSION).wasm
	tar --create --file $(RELEASE)/mesh-authz-$(VERSION).oci.tar --directory dist/image --sort=name --mtime=@0 \
		--owner=0 --group=0 --numeric-owner --mode=a+rX,u+w,go-w .
	cp dist/sbom.cdx.json $(RELEASE)/mesh-authz-$(VERSION).cdx.json
	cp install.sh $(RELEASE)/install.sh
	cd $(RELEASE) && sha256sum * > SHA256SUMS && cat SHA256SUMS

.PHONY: wasm-target
wasm-target:
	@test -d "$$(rustc --print sysroot)/lib/rustlib/wasm32-wasip1" || { \
		command -v rustup >/dev/null || { \
			echo "Rust's target wasm32-wasip1 is missing, and so is rustup, which adds it: https://rustup.rs" >&2; exit 1; }; \
		rustup target add wasm32-wasip1; }

.PHONY: conformance
conformance: ## Compare with Istio's files: ISTIO_TESTDATA=path/to/authz/builder/testdata ISTIO_CRDS=path/to/crds.yaml
	@test -n "$(ISTIO_TESTDATA)$(ISTIO_CRDS)" || { \
		echo "set ISTIO_TESTDATA to Istio's pilot/pkg/security/authz/builder/testdata, for its golden files," >&2; \
		echo "or ISTIO_CRDS to its manifests/charts/base/files/crd-all.gen.yaml, for its schemas" >&2; exit 2; }
	ISTIO_TESTDATA="$(abspath $(ISTIO_TESTDATA))" ISTIO_CRDS="$(abspath $(ISTIO_CRDS))" $(CARGO) test --locked --test golden -- \
		--include-ignored --nocapture $(if $(ISTIO_TESTDATA),,--skip istio_) $(if $(ISTIO_CRDS),,--skip schema::)

.PHONY: differential
differential: dist/mesh_authz.wasm ## Compare the filter with Envoy's own RBAC filter, and with the command: SECONDS=600 COUNT=200000 SEED=7
	SECONDS="$(SECONDS)" COUNT="$(COUNT)" SEED="$(SEED)" $(CARGO) test --locked --release --test differential -- --nocapture

MDBOOK_VERSION := 0.5.4
MDBOOK := $(TARGET)/mdbook-$(MDBOOK_VERSION)
SITE := $(TARGET)/site

.PHONY: site
site: $(MDBOOK)/bin/mdbook ## Build the documentation site with mdBook, target/site/book, and check its links
	docs/site/build.sh $(SITE) $(abspath $<)
	SITE=$(abspath $(SITE)/book) $(CARGO) test --locked --package mesh-authz-cli --test site -- --ignored

$(MDBOOK)/bin/mdbook:
	$(CARGO) install --locked --quiet --root $(MDBOOK) --target-dir $(MDBOOK)/build --version $(MDBOOK_VERSION) mdbook
	rm -rf $(MDBOOK)/build

.PHONY: bench
bench: dist/mesh_authz.wasm $(NOOP) ## Measure a request's cost, next to Envoy's own RBAC filter: QUICK=1 ADVERSARIAL=1 POLICIES=folder
	QUICK="$(QUICK)" ADVERSARIAL="$(ADVERSARIAL)" POLICIES="$(POLICIES)" $(CARGO) bench --locked --bench envoy
	$(if $(POLICIES),,QUICK="$(QUICK)" $(CARGO) bench --locked --bench engine -- --quiet)

# The baseline: a filter that does nothing. It is built and stripped in the same way as the filter.
$(NOOP): wasm-target FORCE
	$(CARGO) build --locked --release --target wasm32-wasip1 --manifest-path benches/noop/Cargo.toml --target-dir $(TARGET)
	@mkdir -p $(@D)
	$(CARGO) run --locked --package strip-exports -- $(TARGET)/wasm32-wasip1/release/noop.wasm $@

ISTIO := $(TARGET)/istio
# Envoy is found here, because the mesh's own network leads nowhere.
IN_MESH = MESH_PROGRAMS="$(abspath $(ISTIO))" MESH_IMAGE="$(abspath dist/image)" MESH_AUTHZ="$(abspath $(TARGET)/debug/mesh-authz)" \
	ENVOY="$$(envoy/find-envoy.sh)" tests/istio/isolated.sh

.PHONY: istio
istio: istio-programs ## Run the filter in a real Istio, on this machine, without a cluster; needs Go: TESTS="files" COUNT=20000 SEED=7
	$(CARGO) test --locked --package mesh-authz-istio --test istio --no-run
	$(IN_MESH) $(CARGO) test --locked --offline --package mesh-authz-istio --test istio -- $(TESTS)
	$(if $(TESTS),,$(MAKE) istio-shell COMMAND=tests/istio/shell-check.sh)

.PHONY: istio-shell
istio-shell: istio-programs ## Start a shell in a real Istio, to try policies in, without a cluster; needs Go: COMMAND="kubectl get pods"
	$(CARGO) build --locked --package mesh-authz-istio
	@$(IN_MESH) $(abspath $(TARGET)/debug/istio-shell) $(COMMAND)

.PHONY: istio-programs
istio-programs: image
	tests/istio/build.sh $(ISTIO)
	$(CARGO) build --locked --package mesh-authz-cli

.PHONY: updates
updates: dist/mesh_authz.wasm ## Change the policies of a running Envoy 200 times, under load: UPDATES=1000 RATE=2000
	UPDATES="$(or $(UPDATES),200)" RATE="$(or $(RATE),1000)" $(CARGO) test --locked --test e2e watched::whatever -- --nocapture

.PHONY: compat
compat: dist/mesh_authz.wasm ## Run the end-to-end tests on several versions of Envoy: ENVOY_VERSIONS="1.36.4 1.40.0"
	@for version in $(ENVOY_VERSIONS); do \
		echo "Envoy $$version"; \
		ENVOY= ENVOY_VERSION=$$version $(CARGO) test --locked --test e2e || exit 1; \
	done

FUZZ := $(TARGET)/fuzz
# libFuzzer wants to know which code runs. The flags are not for build scripts, therefore `--target`.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table)

.PHONY: fuzz
fuzz: ## Feed any bytes to the filter, natively, with libFuzzer; needs a C++ compiler: SECONDS=60 FUZZ_TARGETS="decisions"
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --package mesh-authz-fuzz --features libfuzzer --profile fuzz \
		--target $$(rustc --print host-tuple) --target-dir $(FUZZ)
	@for target in $(or $(FUZZ_TARGETS),configuration properties decisions callbacks); do \
		echo "fuzz: $$target"; \
		mkdir -p $(FUZZ)/corpus/$$target; \
		$(FUZZ)/$$(rustc --print host-tuple)/fuzz/$$target $(FUZZ)/corpus/$$target fuzz/corpus/$$target \
			-max_total_time=$(or $(SECONDS),60) -artifact_prefix=$(FUZZ)/$$target- -print_final_stats=1 || exit 1; \
	done

.PHONY: clean
clean: ## Remove all build results
	$(CARGO) clean
	rm -rf dist

FORCE:
