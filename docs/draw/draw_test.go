package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files of the documentation are up to date with this program.
func TestCommitted(t *testing.T) {
	all, err := pictures("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || string(got) != want {
			t.Errorf("docs/%s is not what the program draws (%v): `make draw`", name, err)
		}
		for parser := xml.NewDecoder(strings.NewReader(want)); ; {
			if _, err := parser.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// area is a rectangle.
type area struct{ x1, y1, x2, y2 float64 }

func (a area) meets(o area) bool { return a.x1 < o.x2 && o.x1 < a.x2 && a.y1 < o.y2 && o.y1 < a.y2 }

func (a area) holds(o area) bool { return a.x1 <= o.x1 && o.x2 <= a.x2 && a.y1 <= o.y1 && o.y2 <= a.y2 }

func (x *box) area() area { return area{x.x, x.y, x.x + x.w, x.y + x.h} }

// area is the area of the text in DejaVu Sans, which is wider than the preferred fonts of style.
func (l *label) area() area {
	size := lineSize
	if l.colour == "title" {
		size = titleSize * 1.12 // bold
	}
	width := 0.0
	for _, r := range l.text {
		width += size * letter(r)
	}
	from := l.x
	switch l.anchor {
	case "middle":
		from -= width / 2
	case "end":
		from -= width
	}
	return area{from, l.y - 0.78*size, from + width, l.y + 0.22*size}
}

// letter is the width of a letter relative to the font size.
func letter(r rune) float64 {
	switch {
	case strings.ContainsRune("ijl'|", r):
		return 0.28
	case strings.ContainsRune("ft.,:;()- r/", r):
		return 0.4
	case strings.ContainsRune("mwMW…", r):
		return 0.95
	case r >= 'A' && r <= 'Z':
		return 0.7
	}
	return 0.6
}

// pieces are the areas of the straight parts of an arrow, as wide as its line.
func (a *arrow) pieces() (all []area) {
	const half = 1.0
	for i, to := range a.points[1:] {
		from := a.points[i]
		all = append(all, area{min(from.x, to.x) - half, min(from.y, to.y) - half, max(from.x, to.x) + half, max(from.y, to.y) + half})
	}
	return all
}

// inner is an area without a border of px pixels.
func (a area) inner(px float64) area { return area{a.x1 + px, a.y1 + px, a.x2 - px, a.y2 - px} }

// All texts are inside the picture and fit into their boxes, and nothing overlaps.
func TestLayout(t *testing.T) {
	for _, d := range []*diagram{&query, &edit} {
		t.Run(d.title, func(t *testing.T) {
			page := area{8, 8, d.width - 8, d.height - 8}
			for i := range d.boxes {
				x := &d.boxes[i]
				if !page.holds(x.area()) {
					t.Errorf("box %q leaves the picture", x.title)
				}
				for _, l := range x.text() {
					if !x.area().inner(6).holds(l.area()) {
						t.Errorf("%q leaves box %q: %v in %v", l.text, x.title, l.area(), x.area())
					}
				}
				for j := range d.boxes[:i] {
					if d.boxes[j].area().meets(x.area()) {
						t.Errorf("boxes %q and %q overlap", d.boxes[j].title, x.title)
					}
				}
				for _, a := range d.arrows {
					for _, p := range a.pieces() {
						if p.meets(x.area().inner(2)) {
							t.Errorf("arrow %v crosses box %q", a.points, x.title)
						}
					}
				}
			}
			for i := range d.labels {
				l := &d.labels[i]
				if !page.holds(l.area()) {
					t.Errorf("%q leaves the picture", l.text)
				}
				for j := range d.labels[:i] {
					if d.labels[j].area().meets(l.area()) {
						t.Errorf("%q and %q overlap", d.labels[j].text, l.text)
					}
				}
				for j := range d.boxes {
					if d.boxes[j].area().meets(l.area()) {
						t.Errorf("%q lies on box %q: %v on %v", l.text, d.boxes[j].title, l.area(), d.boxes[j].area())
					}
				}
				for _, a := range d.arrows {
					for _, p := range a.pieces() {
						if p.meets(l.area()) {
							t.Errorf("%q lies on arrow %v: %v", l.text, a.points, l.area())
						}
					}
				}
			}
		})
	}
}

// Arrows begin and end at a box.
func TestArrows(t *testing.T) {
	for _, d := range []*diagram{&query, &edit} {
		for _, a := range d.arrows {
			for _, p := range []point{a.points[0], a.points[len(a.points)-1]} {
				at := area{p.x - 1, p.y - 1, p.x + 1, p.y + 1}
				found := false
				for i := range d.boxes {
					found = found || d.boxes[i].area().meets(at)
				}
				if !found {
					t.Errorf("%s: arrow %v has an end at no box", d.title, a.points)
				}
			}
		}
	}
}

// An incomplete run is an error.
func TestReadRun(t *testing.T) {
	const whole = "second,stock,kubehosts,event\n0,100,20,\n1,,,down\n2,,,up\n2.5,,,killed\n3,,21,\n"
	r, err := readRun(whole)
	if err != nil || len(r.samples) != 2 || r.down != 1 || r.up != 2 || len(r.killed) != 1 || r.samples[1] != (sample{3, -1, 21}) {
		t.Errorf("%+v %v", r, err)
	}
	for _, text := range []string{"", "second\n", "second,stock,kubehosts,event\n0,1,2,\n", strings.Replace(whole, "up", "away", 1),
		strings.Replace(whole, "100", "much", 1), strings.Replace(whole, "0,100,20,", "0,100,20", 1), strings.Replace(whole, "2,,,up\n", "", 1)} {
		if r, err := readRun(text); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}
