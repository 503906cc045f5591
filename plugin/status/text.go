package status

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// WriteText writes r for a terminal.
func (r *Result) WriteText(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, t := range r.Search {
		mark := ""
		if t.First {
			mark = "  <- the first that exists"
		}
		fmt.Fprintf(out, "%-8s %s %s: %s%s\n", "search", t.Name, r.Type, t.Outcome, mark)
	}
	for i, e := range r.Explanations {
		if i > 0 || len(r.Search) > 0 {
			fmt.Fprintln(out)
		}
		for _, l := range e.Lines {
			fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-8s %s", l.Label, l.Text), " "))
		}
	}
	return out.Flush()
}
