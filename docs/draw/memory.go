package main

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
)

// run is the memory of two servers while the API server was restarted.
type run struct {
	samples  []sample
	down, up float64   // when the API server was killed, and ready again, in seconds
	killed   []float64 // when stock was killed
}

// sample is the memory at a time, in MiB; negative for a server that is not running.
type sample struct{ at, stock, ours float64 }

// The memory limit of a CoreDNS pod in kubeadm's manifest, and the top of the plot, in MiB.
const (
	limit = 170.0
	top   = 200.0
)

// The plot within its picture.
const (
	plotWidth, plotHeight       = 830.0, 330.0
	left, right, upper, lower   = 58.0, 814.0, 44.0, 282.0
	secondsStep, memoryStep     = 5.0, 50.0
	eventDown, eventUp, eventIs = "down", "up", "killed"
)

// readRun reads a run. Each sample has a line with its time in seconds and the memory of both servers in MiB, empty for
// a server that is not running. Each event has a line with its time, and its name in the last column.
func readRun(text string) (*run, error) {
	in := csv.NewReader(strings.NewReader(text))
	in.Comment = '#'
	lines, err := in.ReadAll()
	if err != nil {
		return nil, err
	}
	r := new(run)
	for _, line := range lines[min(1, len(lines)):] {
		if len(line) != 4 {
			return nil, fmt.Errorf("%q has not the 4 columns second, stock, kubehosts, event", line)
		}
		var s sample
		for i, to := range []*float64{&s.at, &s.stock, &s.ours} {
			if *to = -1; line[i] == "" && i > 0 {
				continue
			}
			if *to, err = strconv.ParseFloat(line[i], 64); err != nil {
				return nil, err
			}
		}
		switch line[3] {
		case "":
			r.samples = append(r.samples, s)
		case eventDown:
			r.down = s.at
		case eventUp:
			r.up = s.at
		case eventIs:
			r.killed = append(r.killed, s.at)
		default:
			return nil, fmt.Errorf("%q is no event", line[3])
		}
	}
	if len(r.samples) < 2 || r.up <= r.down {
		return nil, fmt.Errorf("%d samples, the API server is down from %v s to %v s", len(r.samples), r.down, r.up)
	}
	return r, nil
}

func (r *run) x(at float64) float64 {
	return left + (right-left)*at/r.samples[len(r.samples)-1].at
}

func y(mib float64) float64 { return lower - (lower-upper)*mib/top }

func (r *run) draw() string {
	b := open("Memory of a replica when the API server restarts",
		"Two lines over time. Stock CoreDNS grows to the limit of 170 MiB, and is killed, when everything is listed again; kubehosts stays far below it.",
		plotWidth, plotHeight)
	say := func(x, y float64, anchor, colour, text string) { (&label{x, y, anchor, text, colour}).draw(b) }
	say(left, 24, "start", "title", "Memory of a replica in MiB (RssAnon), 120,000 endpoints")
	fmt.Fprintf(b, `<rect x="%.1f" y="%g" width="%.1f" height="%g" style="stroke:none"/>`+"\n", r.x(r.down), upper, r.x(r.up)-r.x(r.down), lower-upper)
	say((r.x(r.down)+r.x(r.up))/2, upper+16, "middle", quiet, "no API server")
	for mib := 0.0; mib <= top; mib += memoryStep {
		fmt.Fprintf(b, `<path class="grid" d="M%g %.1fH%g"/>`+"\n", left, y(mib), right)
		say(left-8, y(mib)+4, "end", quiet, fmt.Sprint(mib))
	}
	for at := 0.0; at <= r.samples[len(r.samples)-1].at; at += secondsStep {
		say(r.x(at), lower+18, "middle", quiet, fmt.Sprintf("%g s", at))
	}
	fmt.Fprintf(b, `<path d="M%g %.1fH%g" stroke-dasharray="6 4"/>`+"\n", left, y(limit), right)
	say(left+6, y(limit)-6, "start", "", "limit of the pod, 170 MiB")
	r.line(b, bad, func(s sample) float64 { return s.stock })
	r.line(b, ours, func(s sample) float64 { return s.ours })
	r.name(b, bad, "stock CoreDNS", func(s sample) float64 { return s.stock })
	r.name(b, ours, "kubehosts", func(s sample) float64 { return s.ours })
	for _, at := range r.killed {
		fmt.Fprintf(b, `<path class="bad" d="M%.1f %.1fl10 10m0 -10l-10 10"/>`+"\n", r.x(at)-5, y(limit)-5)
	}
	if len(r.killed) > 0 {
		say(r.x(r.killed[0]), y(limit)-12, "middle", bad, "killed by the kernel")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// name writes the name of a line above its first point.
func (r *run) name(b *strings.Builder, colour, text string, of func(sample) float64) {
	const wide = 110 // pixels, at most
	most := 0.0
	for _, s := range r.samples {
		if r.x(s.at) < left+wide {
			most = max(most, of(s))
		}
	}
	(&label{left + 6, y(most) - 8, "start", text, colour}).draw(b)
}

// line draws the memory of one server, with gaps where it is not running.
func (r *run) line(b *strings.Builder, colour string, of func(sample) float64) {
	path, move := "", "M"
	for _, s := range r.samples {
		if of(s) < 0 {
			move = "M"
			continue
		}
		path += fmt.Sprintf("%s%.1f %.1f", move, r.x(s.at), y(of(s)))
		move = "L"
	}
	fmt.Fprintf(b, `<path class="%s" d="%s"/>`+"\n", colour, path)
}
