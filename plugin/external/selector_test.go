package external

import (
	"math/rand/v2"
	"testing"

	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apilabels "k8s.io/apimachinery/pkg/labels"
)

// A selector selects the same as an apimachinery selector made of the same fields, and nothing if that is
// invalid.
func TestSelectorAgainstApimachinery(t *testing.T) {
	w := worldMaker{Rand: rand.New(rand.NewPCG(3, 4))}
	selected := 0
	for range 20_000 {
		var s *Selector
		var theirs *meta1.LabelSelector
		if w.IntN(20) > 0 {
			s, theirs = new(Selector), new(meta1.LabelSelector)
			if w.IntN(2) == 0 {
				s.Labels = map[string]string{pick(w, "team", "env"): pick(w, "a", "")}
				theirs.MatchLabels = s.Labels
			}
			for range w.IntN(3) {
				e := Expression{Key: pick(w, "team", "env"), Operator: pick(w, "In", "NotIn", "Exists", "DoesNotExist", "Other")}
				for range w.IntN(3) {
					e.Values = append(e.Values, pick(w, "a", "b", ""))
				}
				s.Expressions = append(s.Expressions, e)
				theirs.MatchExpressions = append(theirs.MatchExpressions, meta1.LabelSelectorRequirement{Key: e.Key, Operator: meta1.LabelSelectorOperator(e.Operator), Values: e.Values})
			}
		}
		has := map[string]string{}
		for range w.IntN(3) {
			has[pick(w, "team", "env")] = pick(w, "a", "b", "")
		}
		want := false
		if selector, err := meta1.LabelSelectorAsSelector(theirs); err == nil {
			want = selector.Matches(apilabels.Set(has))
		}
		var p packer
		p.from(From{"Selector", s})
		from := (&reader{string(p), 0}).from()
		if got := from.allows("None", "own", "other", func() map[string]string { return has }); got != want {
			t.Fatalf("%+v: labels %v: %v, want %v", s, has, got, want)
		}
		if from.allows("All", "own", "own", func() map[string]string { return nil }) {
			t.Fatalf("%+v selects a missing namespace", s)
		}
		if want {
			selected++
		}
	}
	if selected < 1000 {
		t.Errorf("%d selected", selected)
	}
}
