package external

import "slices"

// How namespaces are selected, in the packed form.
const (
	fromDefault = iota
	fromAll
	fromSame
	fromSelector
	fromNone // and any unknown value
)

func (p *packer) from(f From) {
	switch f.Namespaces {
	case "":
		p.byte(fromDefault)
	case "All":
		p.byte(fromAll)
	case "Same":
		p.byte(fromSame)
	case "Selector":
		if f.Selector == nil { // it selects nothing, as in apimachinery
			p.byte(fromNone)
			return
		}
		p.byte(fromSelector)
		p.selector(f.Selector)
	default:
		p.byte(fromNone)
	}
}

func (p *packer) selector(s *Selector) {
	p.labels(s.Labels)
	p.len(len(s.Expressions))
	for _, e := range s.Expressions {
		p.text(e.Key)
		p.text(e.Operator)
		p.texts(e.Values)
	}
}

func (r *reader) from() From {
	switch r.byte() {
	case fromDefault:
		return From{}
	case fromAll:
		return From{Namespaces: "All"}
	case fromSame:
		return From{Namespaces: "Same"}
	case fromSelector:
		return From{"Selector", r.selector()}
	}
	return From{Namespaces: "None"}
}

func (r *reader) selector() *Selector {
	s := &Selector{Labels: r.labels()}
	for range r.len() {
		s.Expressions = append(s.Expressions, Expression{r.text(), r.text(), r.texts()})
	}
	return s
}

// allows reports whether f selects the namespace, for an object in the namespace own. byDefault is the meaning of "".
// labels are those of the namespace, and nil if there is no such namespace.
func (f *From) allows(byDefault, own, namespace string, labels func() map[string]string) bool {
	mode := f.Namespaces
	if mode == "" {
		mode = byDefault
	}
	switch mode {
	case "All":
		return true
	case "Same":
		return own == namespace
	case "Selector":
		return f.Selector.matches(labels())
	}
	return false
}

// matches reports whether the selector selects an object with those labels (Kubernetes, LabelSelector). labels are nil
// if there is no such object.
func (s *Selector) matches(labels map[string]string) bool {
	if s == nil || labels == nil {
		return false
	}
	for key, want := range s.Labels {
		if value, ok := labels[key]; !ok || value != want {
			return false
		}
	}
	for _, e := range s.Expressions {
		if !e.matches(labels) {
			return false
		}
	}
	return true
}

func (e *Expression) matches(labels map[string]string) bool {
	value, ok := labels[e.Key]
	switch e.Operator {
	case "In":
		return ok && slices.Contains(e.Values, value)
	case "NotIn":
		return len(e.Values) > 0 && !(ok && slices.Contains(e.Values, value))
	case "Exists":
		return ok && len(e.Values) == 0
	case "DoesNotExist":
		return !ok && len(e.Values) == 0
	}
	return false
}
