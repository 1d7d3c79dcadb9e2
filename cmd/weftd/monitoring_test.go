//go:build netns

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool runs one of the programs that judge what is shipped for Prometheus and Grafana.
func tool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The alerts are rules that Prometheus takes, and fire when they should.
func TestAlerts(t *testing.T) {
	t.Parallel()
	tool(t, "promtool", "check", "rules", "monitoring/alerts.yaml")
	tool(t, "promtool", "test", "rules", "monitoring/testdata/alerts.test.yaml")
}

// dashboard is what the test needs to know of the dashboard's form, which Grafana's schema describes.
type dashboard struct {
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ RefID, Expr string }
	}
}

func TestDashboard(t *testing.T) {
	const path = "monitoring/dashboard.json"
	tool(t, "jsonschema", "-i", path, "monitoring/testdata/dashboard.schema.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	// Prometheus parses the expressions as recording rules, with values for what Grafana fills in.
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the ID %d of another", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expr := fill.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %q: %s has a variable that nobody fills in", p.Title, expr)
			}
			rules = append(rules, rule{"dashboard:" + strings.ToLower(target.RefID) + ":expr", expr})
		}
	}
	groups := map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if text, err = json.Marshal(groups); err != nil { // JSON is YAML
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "promtool", "check", "rules", file)
}
