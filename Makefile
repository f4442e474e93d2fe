# make run: the main job on real input.  make test: everything that must pass.
# Both need Go, Node with npm, and make; the rest they install by name.

GO       ?= go
BIN      := bin
LINT     := $(BIN)/golangci-lint
LINT_VER := v2.15.0
VULN_VER := v1.9.0

# go.mod's toolchain line names the oldest Go without known faults; a newer one serves too.
export GOTOOLCHAIN := auto

.PHONY: run test test-go test-plugin test-ui test-browser build lint vuln bench soak clean browsers coturn curl need-go need-node

run: build e2e/node_modules/.ok
	@$(GO) build -o $(BIN)/demo ./e2e/demo && exec $(BIN)/demo -bin $(BIN)

test: lint test-go test-plugin test-ui test-browser

# -p 2: packages that start processes and wait for peers share two cores badly with more.
test-go: build e2e/node_modules/.ok | coturn curl
	$(GO) test -race -p 2 -timeout 20m ./...

test-plugin: web/plugin/node_modules/.ok
	npm test --prefix web/plugin --silent

# Types, and that the page is built byte for byte the same each time.
test-ui: web/dist/ui/index.html
	npm test --prefix web/ui --silent

# The real binaries with a real Chromium and a real Firefox.
test-browser: build test-plugin | browsers
	$(GO) build -o $(BIN)/ ./e2e/evilshare
	node --test --test-timeout=180000 --test-concurrency=1 e2e/browser/browser.test.mjs e2e/browser/peers.test.mjs e2e/browser/evil.test.mjs
	node --test --test-timeout=600000 --test-concurrency=1 e2e/browser/ui.test.mjs e2e/browser/ui-screens.test.mjs e2e/browser/opened.test.mjs

build: need-go web/dist/ui/index.html
	$(GO) build -o $(BIN)/ ./cmd/...

# The hub's page, which its binary holds.
web/dist/ui/index.html: web/ui/node_modules/.ok web/ui/index.html web/ui/vite.config.ts $(shell find web/ui/src web/ui/public web/plugin/src -type f)
	npm run build --prefix web/ui --silent

lint: need-go $(LINT)
	$(LINT) run ./...

# Known vulnerabilities in what is called of Go and of the modules. It asks https://vuln.go.dev.
vuln: need-go
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(VULN_VER) ./... \
	  || { echo "vuln: either govulncheck found something, told above, or https://vuln.go.dev is not reachable from here"; exit 1; }

$(LINT):
	GOBIN=$(CURDIR)/$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VER) \
	  || { echo "golangci-lint $(LINT_VER) could not be installed: is the Go module proxy reachable (go env GOPROXY)?"; exit 1; }

%/node_modules/.ok: %/package.json %/package-lock.json | need-node
	npm ci --prefix $* --no-audit --no-fund --loglevel=error \
	  || { echo "npm ci failed: is the npm registry reachable (npm ping)?"; exit 1; }
	@touch $@

# Throughput beside its ceilings and what else there is, in the same run.
bench: build e2e/bench/node_modules/.ok e2e/node_modules/.ok
	$(GO) run ./e2e/bench -bin $(BIN) -rivals -tests -write docs/benchmarks.md
	$(GO) run ./e2e/hubbench -bin $(BIN) -write docs/hub-benchmarks.md
	$(MAKE) test-plugin browsers
	node e2e/browser/bars.mjs

# Slow: an hour (LOVESEAT_SOAK_TIME=10m: less) of edits, kills, cuts and restarts; ten minutes of hostile peers and strangers next to
# honest ones; a pool of 16 peers; large attachments.
soak: build e2e/node_modules/.ok
	LOVESEAT_SOAK=1 $(GO) test -run 'Soak|LargeAttachment' -timeout 180m -v ./e2e
	LOVESEAT_SOAK=1 $(GO) test -run Soak -timeout 60m -v ./localdb
	LOVESEAT_SOAK=1 $(GO) test -run AcknowledgedWrites -timeout 60m -v ./e2e
	LOVESEAT_SOAK=1 $(GO) test -run TestSmallForEver -timeout 60m -v ./hub
	LOVESEAT_SOAK=1 $(GO) test -run NoLeaksInHub -timeout 60m -v ./peeradapter
	$(GO) run ./e2e/hubbench -bin $(BIN) -only signals,feeds -strict

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

# Its TURN server and client, for the tests only: as a service it does not run.
coturn:
	@command -v turnserver >/dev/null && command -v turnutils_uclient >/dev/null && exit; \
	sudo=$$(command -v sudo || true); \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq coturn >/dev/null \
	  || { echo "coturn is needed for the TURN tests and could not be installed: apt-get install coturn"; exit 1; }; \
	$$sudo systemctl disable --now coturn >/dev/null 2>&1 || true

# For the test of the commands that docs/operate.md shows.
curl:
	@command -v curl >/dev/null && exit; \
	sudo=$$(command -v sudo || true); \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq curl >/dev/null \
	  || { echo "curl is needed for a test of the hub and could not be installed: apt-get install curl"; exit 1; }

clean:
	rm -rf $(BIN) e2e/node_modules e2e/bench/node_modules web/plugin/node_modules web/plugin/lib web/plugin/dist web/ui/node_modules web/dist/ui
