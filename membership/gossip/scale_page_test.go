//go:build scale

package gossip

import (
	"bytes"
	"html/template"
	"strconv"
)

// page shows the figures as bars, one chart for each, and needs no other file.
func page(all []figures) []byte {
	type bar struct {
		Label, Value string
		Y            int
		Width        float64
		Over         bool
	}
	type chart struct {
		Name, Unit string
		Aim        float64
		Height     int
		Bars       []bar
	}
	var charts []chart
	for _, c := range columns {
		ch := chart{Name: c.name, Unit: c.unit, Aim: c.aim, Height: 24 * len(all)}
		largest := c.aim
		for _, f := range all {
			largest = max(largest, c.of(f))
		}
		for i, f := range all {
			v := c.of(f)
			ch.Bars = append(ch.Bars, bar{
				Label: strconv.Itoa(f.Nodes), Value: strconv.FormatFloat(v, 'f', 1, 64), Y: 24 * i,
				Width: 300 * v / max(largest, 1e-9), Over: c.aim > 0 && v > c.aim,
			})
		}
		charts = append(charts, ch)
	}
	var b bytes.Buffer
	data := struct {
		Charts []chart
		Record int
	}{charts, all[len(all)-1].Record}
	if err := template.Must(template.New("page").Parse(pageText)).Execute(&b, data); err != nil {
		panic(err) // the template and its data are both above
	}
	return b.Bytes()
}

const pageText = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>weft gossip at scale</title>
<style>
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #e1e5ea; --text: #1b2530; --soft: #66717e; --own: #0b8f8c; --bad: #cf3d3d; }
@media (prefers-color-scheme: dark) { :root { --page: #12171d; --card: #1a212a; --line: #2d3743; --text: #e4e9ef; --soft: #93a0ae; --own: #22b8b2; --bad: #e86464; } }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h3 { font-size: 13px; margin: 0 0 6px; }
.soft, h3 span { color: var(--soft); font-weight: 400; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(420px, 100%), 1fr)); gap: 22px 34px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px; margin-top: 20px; }
svg { display: block; width: 100%; height: auto; overflow: visible; } svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--text); }
.bar { fill: var(--own); } .over { fill: var(--bad); } .axis { stroke: var(--line); }
</style>
</head>
<body>
<main>
<h1>weft gossip at scale</h1>
<p class="soft">Real memberlist over a network in memory, in virtual time, encrypted, with records of {{.Record}} bytes. Bytes are what one node sends, with IP, UDP and TCP headers. One bar for each number of nodes.</p>
<section>
{{- range .Charts}}
<div>
<h3>{{.Name}} <span>{{.Unit}}, less is better{{if .Aim}}; aim: below {{.Aim}}{{end}}</span></h3>
<svg viewBox="0 0 460 {{.Height}}" role="img" aria-label="{{.Name}}">
<line class="axis" x1="60" x2="60" y1="0" y2="{{.Height}}"/>
{{- range .Bars}}
<g transform="translate(0 {{.Y}})"><text x="52" y="16" text-anchor="end">{{.Label}}</text>
<rect class="{{if .Over}}over{{else}}bar{{end}}" x="60" y="4" width="{{printf "%.1f" .Width}}" height="16" rx="2"/>
<text x="{{printf "%.1f" .Width}}" dx="68" y="16">{{.Value}}</text></g>
{{- end}}
</svg>
</div>
{{- end}}
</section>
</main>
</body>
</html>
`
