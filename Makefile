# make run: the main job on real input.  make test: everything that must pass.
# Both need Go, Node with npm, and make; the rest they install by name.

GO       ?= go
BIN      := bin
LINT     := $(BIN)/golangci-lint
LINT_VER := v2.15.0

.PHONY: run test test-go test-plugin test-browser build lint bench soak clean browsers need-go need-node

run: build e2e/node_modules/.ok
	@$(GO) build -o $(BIN)/demo ./e2e/demo && exec $(BIN)/demo -bin $(BIN)

test: lint test-go test-plugin test-browser

# -p 2: packages that start processes and wait for peers share two cores badly with more.
test-go: build e2e/node_modules/.ok
	$(GO) test -race -p 2 -timeout 20m ./...

test-plugin: web/plugin/node_modules/.ok
	npm test --prefix web/plugin --silent

# The real binaries with a real Chromium and a real Firefox.
test-browser: build test-plugin | browsers
	node --test --test-timeout=180000 e2e/browser/browser.test.mjs

build: need-go
	$(GO) build -o $(BIN)/ ./cmd/...

lint: need-go $(LINT)
	$(LINT) run ./...

$(LINT):
	GOBIN=$(CURDIR)/$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VER) \
	  || { echo "golangci-lint $(LINT_VER) could not be installed: is the Go module proxy reachable (go env GOPROXY)?"; exit 1; }

%/node_modules/.ok: %/package.json %/package-lock.json | need-node
	npm ci --prefix $* --no-audit --no-fund --loglevel=error \
	  || { echo "npm ci failed: is the npm registry reachable (npm ping)?"; exit 1; }
	@touch $@

# Throughput beside its ceilings and what else there is, in the same run.
bench: build e2e/bench/node_modules/.ok
	$(GO) run ./e2e/bench -bin $(BIN) -rivals -write docs/benchmarks.md

# Slow: kills and restarts for ten minutes.
soak: build e2e/node_modules/.ok
	LOVESEAT_SOAK=1 $(GO) test -run Soak -timeout 60m -v ./e2e
	LOVESEAT_SOAK=1 $(GO) test -run Soak -timeout 60m -v ./localdb
	LOVESEAT_SOAK=1 $(GO) test -run 'TestSmallForEver|TestSignalRate' -timeout 60m -v ./hub

need-go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or later is needed: https://go.dev/dl/"; exit 1; }

need-node:
	@command -v npm >/dev/null || { echo "Node 20 or later with npm is needed: https://nodejs.org/"; exit 1; }

browsers:
	@for b in chromium firefox-esr; do \
	  command -v $$b >/dev/null && continue; \
	  sudo=$$(command -v sudo || true); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$b >/dev/null \
	    || { echo "$$b is needed for the browser tests and could not be installed: apt-get install $$b"; exit 1; }; \
	done

clean:
	rm -rf $(BIN) e2e/node_modules e2e/bench/node_modules web/plugin/node_modules web/plugin/lib web/plugin/dist
