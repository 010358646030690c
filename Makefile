# make help lists the targets.
.DEFAULT_GOAL := help
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help run test lint fuzz explore generate verify ci

help: ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: ## Run everything on this machine, with a sandbox.
	go run ./cmd/tillgate dev

test: ## Run all tests.
	go test ./...

lint: ## Check form: gofmt, vet, staticcheck.
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run: gofmt -w .'; exit 1; }
	go vet ./...
	go vet -tags faultpoint ./...
	$(STATICCHECK) ./...

fuzz: ## Fuzz every decoder, a minute each.
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime 1m $$p || exit 1; done; done

explore: ## Search for longer where a property holds: many random stories of the core and the store.
	go test ./payment ./sqlstore -run 'Rapid|Property|Random' -rapid.checks 20000 -timeout 2h

generate: ## Rewrite the generated files.
	go test ./payment ./sqlstore ./sandbox ./admin -update

verify: ## Fail when a generated file is not current.
	go test -count=1 ./payment ./sqlstore ./sandbox ./admin -run 'TestStatesAreDrawn|TestSchema|TestDocs|TestTheDescription'

ci: ## What the gate runs.
	bash .ci/run
