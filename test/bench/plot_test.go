package bench

import (
	"fmt"
	"math"
	"strings"
)

// panel is one half of the plot: a value for each size, on a logarithmic scale.
type panel struct {
	title, unit string
	stock, ours []float64
}

const (
	plotWidth, plotHeight = 380.0, 260.0
	plotLeft, plotTop     = 60.0, 40.0
)

// plot draws panels side by side as SVG; x has a logarithmic scale.
func plot(x []float64, panels ...panel) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11">`+"\n",
		float64(len(panels))*(plotWidth+plotLeft+20), plotHeight+plotTop+50)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%.0f %.0f)">`+"\n", plotLeft+float64(i)*(plotWidth+plotLeft+20), plotTop)
		p.draw(&b, x)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder, x []float64) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range append(append([]float64{}, p.stock...), p.ours...) {
		low, high = min(low, math.Floor(math.Log10(v))), max(high, math.Ceil(math.Log10(v)))
	}
	first, last := math.Log10(x[0]), math.Log10(x[len(x)-1])
	atX := func(v float64) float64 { return plotWidth * (math.Log10(v) - first) / (last - first) }
	atY := func(v float64) float64 { return plotHeight * (high - math.Log10(v)) / (high - low) }

	fmt.Fprintf(b, `<text x="0" y="-18" font-size="13">%s (%s)</text>`+"\n", p.title, p.unit)
	for e := low; e <= high; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<path d="M0 %.1fH%.0f" stroke="#ddd"/><text x="-6" y="%.1f" text-anchor="end">%g</text>`+"\n", atY(v), plotWidth, atY(v)+4, v)
	}
	for _, v := range x {
		fmt.Fprintf(b, `<path d="M%.1f 0V%.0f" stroke="#ddd"/><text x="%.1f" y="%.0f" text-anchor="middle">%.0f</text>`+"\n", atX(v), plotHeight, atX(v), plotHeight+16, v)
	}
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle">endpoints, 10 a Service</text>`+"\n", plotWidth/2, plotHeight+34)
	for _, line := range []struct {
		name, colour string
		values       []float64
	}{{"stock", "#c33", p.stock}, {"kubehosts", "#06a", p.ours}} {
		var points []string
		for i, v := range line.values {
			points = append(points, fmt.Sprintf("%.1f,%.1f", atX(x[i]), atY(v)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%.3g %s</title></circle>`+"\n", atX(x[i]), atY(v), line.colour, v, p.unit)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), line.colour)
		middle := len(x) / 2
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s" text-anchor="middle">%s</text>`+"\n", atX(x[middle]), atY(line.values[middle])-9, line.colour, line.name)
	}
}
