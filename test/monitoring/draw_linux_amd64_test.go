package monitoring

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A cell of the dashboard's grid in pixels, and the space around a plot within its panel.
const (
	cellWidth, cellHeight = 50.0, 28.0
	gap                   = 4.0
	plotLeft, plotRight   = 58.0, 12.0
	plotTop, plotBottom   = 30.0, 50.0
)

var colours = []string{"#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e02f44", "#1f9e9e", "#b8860b", "#7a5c46", "#5f6b7a", "#d63384"}

// drawing is a picture of the dashboard, over the time from start to end.
type drawing struct {
	strings.Builder
	start, end   float64
	began, ended float64 // between these there were faults
}

// draw draws the dashboard as SVG, from the results of its queries. It shades the time with faults.
func (w *world) draw(t *testing.T, began, ended time.Time) string {
	t.Helper()
	d := dashboard(t)
	unix := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	p := &drawing{start: unix(w.started), end: unix(time.Now()), began: unix(began), ended: unix(ended)}
	height := 0
	for _, panel := range d.Panels {
		height = max(height, panel.GridPos.Y+panel.GridPos.H)
	}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" fill="#333">`,
		24*cellWidth, float64(height)*cellHeight+30)
	p.printf(`<title>%s</title><rect width="100%%" height="100%%" fill="#f4f5f7"/>`, html.EscapeString(d.Title))
	p.printf(`<text x="10" y="20" font-size="16">%s</text>`, html.EscapeString(d.Title))
	p.WriteString(`<g transform="translate(0 30)">`)
	for _, panel := range d.Panels {
		results := make([][]series, len(panel.Targets))
		for i, target := range panel.Targets {
			results[i] = w.prom.queryRange(target.Expr, w.started)
		}
		p.panel(panel, results)
	}
	p.WriteString("</g></svg>\n")
	testPicture(t, p.String(), d)
	return p.String()
}

// testPicture checks that a picture is well-formed, and has each panel.
func testPicture(t *testing.T, picture string, d *Dashboard) {
	for parser := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := parser.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, panel := range d.Panels {
		if !strings.Contains(picture, ">"+html.EscapeString(panel.Title)+"</text>") {
			t.Errorf("%q is not in the picture", panel.Title)
		}
	}
}

func (p *drawing) printf(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *drawing) panel(panel *Panel, results [][]series) {
	g := panel.GridPos
	width, height := float64(g.W)*cellWidth-2*gap, float64(g.H)*cellHeight-2*gap
	p.printf(`<g transform="translate(%.0f %.0f)">`, float64(g.X)*cellWidth+gap, float64(g.Y)*cellHeight+gap)
	if panel.Type == "row" {
		p.printf(`<text x="6" y="15" font-size="14" font-weight="bold">%s</text></g>`, html.EscapeString(panel.Title))
		return
	}
	p.printf(`<rect width="%.0f" height="%.0f" rx="3" fill="white" stroke="#dde"/>`, width, height)
	p.printf(`<text x="10" y="18" font-weight="bold">%s</text>`, html.EscapeString(panel.Title))
	switch panel.Type {
	case "stat":
		p.stat(panel, results, width)
	case "table":
		p.table(results)
	default:
		p.lines(panel, results, width, height)
	}
	p.printf("</g>")
}

// stat draws the last value.
func (p *drawing) stat(panel *Panel, results [][]series, width float64) {
	for _, s := range results[0] {
		p.printf(`<text x="%.0f" y="72" font-size="30" text-anchor="middle">%s</text>`,
			width/2, formatted(s.values[len(s.values)-1], panel.FieldConfig.Defaults.Unit))
	}
}

// table draws the labels and values of the series that exist at the end.
func (p *drawing) table(results [][]series) {
	y := 50.0
	row := func(weight string, cells ...string) {
		for i, cell := range cells {
			p.printf(`<text x="%d" y="%.0f" font-weight="%s">%s</text>`, []int{10, 130, 225, 335}[i], y, weight, html.EscapeString(cell))
		}
		y += 20
	}
	row("bold", "block", "origin", "hash", "replicas")
	for _, s := range results[0] {
		if last := len(s.at) - 1; s.at[last] > p.end-3 {
			row("normal", s.labels["block"], s.labels["origin"], s.labels["hash"], fmt.Sprint(s.values[last]))
		}
	}
}

// line is one line of a panel, with its values over time.
type line struct {
	name   string
	colour string
	series
	base []float64 // the sum of the lines below
}

func (p *drawing) lines(panel *Panel, results [][]series, width, height float64) {
	defaults := &panel.FieldConfig.Defaults
	stacked := defaults.Custom.Stacking.Mode == "normal"
	var all []line
	for i, of := range results {
		for _, s := range of {
			all = append(all, line{name: legend(panel.Targets[i].LegendFormat, s.labels), series: s})
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return strings.Compare(a.name, b.name) })
	sum, top := make(map[float64]float64), 0.0
	for i := range all {
		l := &all[i]
		l.colour = colours[i%len(colours)]
		l.base = make([]float64, len(l.at))
		for j, at := range l.at {
			if stacked {
				l.base[j] = sum[at]
				sum[at] += l.values[j]
			}
			top = max(top, l.base[j]+l.values[j])
		}
	}
	if defaults.Max != nil {
		top = *defaults.Max
	}
	top, steps := rounded(top)
	w, h := width-plotLeft-plotRight, height-plotTop-plotBottom
	x := func(at float64) float64 { return w * (at - p.start) / (p.end - p.start) }
	y := func(v float64) float64 { return h * (1 - v/top) }

	p.printf(`<g transform="translate(%.0f %.0f)">`, plotLeft, plotTop)
	p.printf(`<rect x="%.1f" width="%.1f" height="%.0f" fill="#fdecea"/>`, x(p.began), x(p.ended)-x(p.began), h)
	for i := range steps + 1 {
		v := top * float64(i) / float64(steps)
		p.printf(`<path d="M0 %.1fH%.0f" stroke="#e5e5ea"/><text x="-6" y="%.1f" text-anchor="end" font-size="10">%s</text>`,
			y(v), w, y(v)+4, formatted(v, defaults.Unit))
	}
	for second := 0.0; second < p.end-p.start; second += 30 {
		p.printf(`<text x="%.1f" y="%.0f" text-anchor="middle" font-size="10">%.0f s</text>`, x(p.start+second), h+14, second)
	}
	for _, l := range all {
		l.draw(p, x, y, stacked)
	}
	p.printf("</g>")
	p.legend(all, width, height)
}

// draw draws one line, with gaps where it has no values, over the area stacked below it.
func (l *line) draw(p *drawing, x, y func(float64) float64, stacked bool) {
	step := scraping.Seconds()
	for from := 0; from < len(l.at); {
		to := from + 1
		for to < len(l.at) && l.at[to]-l.at[to-1] < 1.5*step {
			to++
		}
		var upper, lower []string
		for i := from; i < to; i++ {
			if i > from && i < to-1 && l.flat(i) {
				continue
			}
			upper = append(upper, fmt.Sprintf("%.1f,%.1f", x(l.at[i]), y(l.base[i]+l.values[i])))
			lower = append(lower, fmt.Sprintf("%.1f,%.1f", x(l.at[i]), y(l.base[i])))
		}
		if stacked {
			slices.Reverse(lower)
			p.printf(`<polygon points="%s %s" fill="%s" fill-opacity="0.3"/>`, strings.Join(upper, " "), strings.Join(lower, " "), l.colour)
		}
		p.printf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, strings.Join(upper, " "), l.colour)
		from = to
	}
}

// flat reports whether the line continues unchanged at i.
func (l *line) flat(i int) bool {
	return l.values[i-1] == l.values[i] && l.values[i] == l.values[i+1] && l.base[i-1] == l.base[i] && l.base[i] == l.base[i+1]
}

// legend draws the names of lines in two rows, as far as they fit.
func (p *drawing) legend(all []line, width, height float64) {
	x, y := 12.0, height-20
	for _, l := range all {
		wide := 24 + 6.2*float64(len(l.name))
		if x+wide > width {
			if x, y = 12, y+14; y > height {
				return
			}
		}
		p.printf(`<path d="M%.0f %.0fh10" stroke="%s" stroke-width="3"/><text x="%.0f" y="%.0f" font-size="10">%s</text>`,
			x, y-3, l.colour, x+14, y, html.EscapeString(l.name))
		x += wide
	}
}

var labelName = regexp.MustCompile(`\{\{(\w+)\}\}`)

// legend fills the labels of a series into a legend's format. It shortens a path in a test's own folder to the last
// element.
func legend(format string, labels map[string]string) string {
	return labelName.ReplaceAllStringFunc(format, func(part string) string {
		value := labels[labelName.FindStringSubmatch(part)[1]]
		if strings.HasPrefix(value, os.TempDir()) {
			return filepath.Base(value)
		}
		return value
	})
}

// rounded returns the next round number above top, and its number of steps.
func rounded(top float64) (round float64, steps int) {
	if top <= 0 {
		return 1, 2
	}
	unit := math.Pow(10, math.Floor(math.Log10(top)))
	for _, r := range []struct {
		of    float64
		steps int
	}{{1, 4}, {1.5, 3}, {2, 4}, {3, 3}, {4, 4}, {5, 5}, {6, 3}, {8, 4}, {10, 4}} {
		if top <= r.of*unit*1.0001 {
			return r.of * unit, r.steps
		}
	}
	return 10 * unit, 4
}

// formatted formats a value in one of Grafana's units.
func formatted(v float64, unit string) string {
	switch unit {
	case "percentunit":
		return fmt.Sprintf("%.3g %%", 100*v)
	case "bytes":
		return fmt.Sprintf("%.3g MiB", v/(1<<20))
	case "reqps":
		return fmt.Sprintf("%.3g/s", v)
	case "bool_yes_no":
		return map[float64]string{0: "no", 1: "yes"}[v]
	case "s":
		switch {
		case v == 0 || v >= 1:
			return fmt.Sprintf("%.3g s", v)
		case v >= 1e-3:
			return fmt.Sprintf("%.3g ms", 1e3*v)
		}
		return fmt.Sprintf("%.3g µs", 1e6*v)
	}
	return fmt.Sprintf("%.3g", v)
}

func TestRounded(t *testing.T) {
	for top, want := range map[float64]float64{0: 1, 0.07: 0.08, 1: 1, 1.2: 1.5, 9: 10, 101: 150, 42: 50} {
		if got, _ := rounded(top); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", top, got, want)
		}
	}
}
