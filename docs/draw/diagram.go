package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// style has the colours of all pictures, for light and dark pages. The background is part of the picture, because the
// page's colour scheme may differ from the system's.
const style = `<style>
svg { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px;
  --page: #fff; --text: #1f2328; --quiet: #59636e; --line: #8c959f; --grid: #d8dee4; --box: #f6f8fa;
  --ours: #0969da; --oursbox: #ddf4ff; --good: #1a7f37; --goodbox: #dafbe1; --bad: #cf222e; --badbox: #ffebe9 }
@media (prefers-color-scheme: dark) { svg {
  --page: #0d1117; --text: #e6edf3; --quiet: #9198a1; --line: #7d8590; --grid: #262c36; --box: #161b22;
  --ours: #58a6ff; --oursbox: #10233f; --good: #3fb950; --goodbox: #12261e; --bad: #f85149; --badbox: #301b1e } }
text { fill: var(--text) } .quiet { fill: var(--quiet) } .title { font-weight: 600; font-size: 13px }
rect { fill: var(--box); stroke: var(--line) } .page { fill: var(--page); stroke: none }
rect.ours { fill: var(--oursbox); stroke: var(--ours) } rect.good { fill: var(--goodbox); stroke: var(--good) }
rect.bad { fill: var(--badbox); stroke: var(--bad) }
path { fill: none; stroke: var(--line); stroke-width: 1.5 } path.head { fill: var(--line); stroke: none }
path.ours { stroke: var(--ours) } path.head.ours { fill: var(--ours); stroke: none }
path.good { stroke: var(--good) } path.head.good { fill: var(--good); stroke: none }
path.bad { stroke: var(--bad) } path.head.bad { fill: var(--bad); stroke: none }
text.ours { fill: var(--ours) } text.good { fill: var(--good) } text.bad { fill: var(--bad) } path.grid { stroke: var(--grid); stroke-width: 1 }
</style>
`

// Colours of boxes, arrows and texts: the classes of style.
const (
	plain = ""
	ours  = "ours"
	good  = "good"
	bad   = "bad"
	quiet = "quiet"
)

// The font sizes of style.
const (
	titleSize = 13.0
	lineSize  = 12.0
	lineStep  = 16.0 // from one line to the next
)

// point is a position in a picture, in pixels from its upper left corner.
type point struct{ x, y float64 }

// box is a component: a title and lines of text.
type box struct {
	x, y, w, h float64
	title      string
	lines      []string
	colour     string
}

// arrow is a line through its points, with a head.
type arrow struct {
	colour string
	points []point
}

// label is a line of text beside an arrow.
type label struct {
	x, y   float64 // of the baseline, at the anchor
	anchor string  // start, middle or end
	text   string
	colour string
}

// diagram has boxes and arrows between them.
type diagram struct {
	title, description string // for screen readers
	width, height      float64
	boxes              []box
	arrows             []arrow
	labels             []label
}

// open writes the beginning of an SVG.
func open(title, description string, width, height float64) *strings.Builder {
	b := new(strings.Builder)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-labelledby="t d">`+"\n", width, height)
	fmt.Fprintf(b, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n", html.EscapeString(title), html.EscapeString(description))
	b.WriteString(style)
	fmt.Fprintf(b, `<rect class="page" width="%g" height="%g" rx="6"/>`+"\n", width, height)
	return b
}

func (d *diagram) draw() string {
	b := open(d.title, d.description, d.width, d.height)
	for _, a := range d.arrows {
		a.draw(b)
	}
	for _, x := range d.boxes {
		x.draw(b)
	}
	for _, l := range d.labels {
		l.draw(b)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (x *box) draw(b *strings.Builder) {
	fmt.Fprintf(b, `<rect%s x="%g" y="%g" width="%g" height="%g" rx="5"/>`+"\n", class(x.colour), x.x, x.y, x.w, x.h)
	for _, l := range x.text() {
		l.draw(b)
	}
}

// text returns the title and the lines, centered in the box.
func (x *box) text() (all []label) {
	middle := x.x + x.w/2
	y := x.y + (x.h-lineStep*float64(1+len(x.lines)))/2 + 12.5
	all = append(all, label{middle, y, "middle", x.title, "title"})
	for i, line := range x.lines {
		all = append(all, label{middle, y + lineStep*float64(i+1), "middle", line, quiet})
	}
	return all
}

// headLength and headWidth are the size of an arrow's head.
const headLength, headWidth = 8.0, 7.0

func (a *arrow) draw(b *strings.Builder) {
	last := len(a.points) - 1
	tip, from := a.points[last], a.points[last-1]
	length := math.Hypot(tip.x-from.x, tip.y-from.y)
	dx, dy := (tip.x-from.x)/length, (tip.y-from.y)/length
	base := point{tip.x - headLength*dx, tip.y - headLength*dy}
	path := fmt.Sprintf("M%g %g", a.points[0].x, a.points[0].y)
	for _, p := range a.points[1:last] {
		path += fmt.Sprintf("L%g %g", p.x, p.y)
	}
	fmt.Fprintf(b, `<path%s d="%sL%g %g"/>`, class(a.colour), path, base.x, base.y)
	fmt.Fprintf(b, `<path%s d="M%g %gL%g %gL%g %gZ"/>`+"\n", class("head "+a.colour), tip.x, tip.y,
		base.x-headWidth/2*dy, base.y+headWidth/2*dx, base.x+headWidth/2*dy, base.y-headWidth/2*dx)
}

func (l *label) draw(b *strings.Builder) {
	fmt.Fprintf(b, `<text%s x="%g" y="%g" text-anchor="%s">%s</text>`+"\n", class(l.colour), l.x, l.y, l.anchor, html.EscapeString(l.text))
}

func class(names string) string {
	if names = strings.TrimSpace(names); names != "" {
		return ` class="` + names + `"`
	}
	return ""
}
