package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tillgate/tillgate/"

// house says which of our packages a package may import: the directions of ARCHITECTURE.md. A folder stands for all below it.
var house = map[string][]string{
	"money":               {},
	"card":                {},
	"emv":                 {},
	"receipt":             {"money", "card", "payment"},
	"device":              {"money", "card", "emv", "payment", "receipt", "terminal", "protocol/qfpay"},
	"ledger":              {"money"},
	"payment":             {"money", "card", "ledger"},
	"admin":               {"payment", "settlement", "sqlstore", "terminal"},
	"settlement":          {"money", "payment"},
	"vault":               {"payment", "card"},
	"sqlstore":            {"money", "ledger", "payment", "settlement", "terminal", "internal/fault"},
	"terminal":            {"money", "card", "emv", "payment"},
	"notify":              {"payment", "internal/wait"},
	"acquirer/cardhost":   {"money", "card", "emv", "payment", "vault", "internal/fault", "internal/wait"},
	"acquirer/wallet":     {"money", "payment", "internal/fault"},
	"protocol/iotpay":     {"card", "money", "payment", "internal/access", "internal/wait"},
	"protocol/upp":        {"money", "payment", "internal/access", "internal/strictjson", "internal/park", "internal/peer", "internal/wait"},
	"protocol/uqpay":      {"money", "card", "emv", "payment", "terminal", "internal/access", "internal/strictjson", "internal/peer", "internal/wait"},
	"protocol/qfpay":      {"money", "payment", "internal/wait"},
	"protocol/upay":       {"money", "payment", "terminal", "internal/access", "internal/strictjson", "internal/wait"},
	"sandbox":             {"money"},
	"signal":              {"payment"},
	"internal/pgtest":     {},
	"internal/access":     {},
	"internal/fault":      {},
	"internal/strictjson": {},
	"internal/park":       {"internal/access"},
	"internal/peer":       {},
	"internal/wait":       {},
	"cmd/tillgate":        nil, // Wiring: everything.
	"sqlstore/storetest":  {"money", "ledger", "payment", "terminal"},
}

func TestImports(t *testing.T) {
	t.Parallel()
	list := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for packages := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := house[name]
		if !known {
			t.Errorf("%s has no place in the house: give it a row here and in ARCHITECTURE.md", name)
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module); ok && allowed != nil && !slices.Contains(allowed, ours) {
				t.Errorf("%s must not import %s", name, ours)
			}
		}
	}
}
