# make run: the main job on real input.  make test: everything that must pass.
# Both need Go, Node with npm, and make; the rest they install by name.

GO       ?= go
BIN      := bin
LINT     := $(BIN)/golangci-lint
LINT_VER := v2.15.0

.PHONY: run test build lint race e2e bench soak fuzz clean need-go need-node

run: build e2e/node_modules/.ok
	@$(GO) run ./e2e/demo -bin $(BIN)

test: lint build e2e/node_modules/.ok
	$(GO) test -race -timeout 15m ./...

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
	LOVESEAT_SOAK=1 $(GO) test -run 'TestSmallForEver|TestSignalRate' -timeout 60m -v ./hub

need-go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or later is needed: https://go.dev/dl/"; exit 1; }

need-node:
	@command -v npm >/dev/null || { echo "Node 20 or later with npm is needed: https://nodejs.org/"; exit 1; }

clean:
	rm -rf $(BIN) e2e/node_modules
