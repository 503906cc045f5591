package live

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// model is what a Block that follows a ConfigMap should do: which text serves, which one waits for its objects, and
// whether the current one is rejected.
type model struct {
	text     string // the current one, "" for no ConfigMap
	entry    string // the hosts entry that it has, "" if it is bad
	pods     bool   // it needs pods
	granted  bool   // pods may be listed
	serves   string // the hosts entry that serves
	hasPods  bool   // what serves needs pods
	waits    string // the hosts entry of the stanza that waits for pods
	rejected bool
}

// edit is a new text of the ConfigMap.
func (m *model) edit(text, entry string, pods bool) {
	m.text, m.entry, m.pods = text, entry, pods
	switch {
	case entry == "":
		m.rejected = true
	case pods && !m.granted && !m.hasPods:
		m.waits, m.rejected = entry, true
	default:
		m.serves, m.hasPods, m.waits, m.rejected = entry, pods, "", false
	}
}

// grant makes pods readable, or not.
func (m *model) grant(granted bool) {
	m.granted = granted
	if !granted || m.waits == "" {
		return
	}
	m.serves, m.hasPods = m.waits, true
	if m.entry == m.waits {
		m.rejected = false
	}
	m.waits = ""
}

// The verdict, and so the gauge, is about the current resourceVersion of the ConfigMap alone, whatever came before:
// good and bad texts, texts whose objects can't be listed, and objects that can be listed again while another text is
// current.
func TestVerdictsOfRandomEdits(t *testing.T) {
	quietly(t)
	t.Run("all", func(t *testing.T) {
		for seed := range uint64(20) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				randomEdits(t, seed)
			})
		}
	})
}

func randomEdits(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	a := newAPIServer(t)
	m := &model{}
	deny := func(on bool) {
		a.answer("pods", map[bool]int{true: unavailable[random.IntN(len(unavailable))]}[on])
		m.grant(!on)
	}
	deny(random.IntN(2) == 0)
	m.edit("kubehosts {\nhosts {\n192.0.2.9 first.example\n}\n}\n", "first.example", false)
	a.put(m.text)
	b := start(t, fmt.Sprintf("dns://.:%d", 2000+seed), following(a))
	steps := []string{"start"}
	check := func() {
		t.Helper()
		eventually(t, fmt.Sprintf("seed %d, %v: %+v", seed, steps, *m), func() bool {
			a.mu.Lock()
			version := fmt.Sprint(a.version)
			a.mu.Unlock()
			want := 0.0
			if m.rejected {
				want = 1
			}
			e := b.edit.Load()
			return e != nil && e.event.ResourceVersion == version && gauge(t, "stanza_rejected", b.Name()) == want &&
				(b.Refused() != "") == m.rejected && holds(b, m.serves+".")
		})
	}
	check()
	for i := range 10 {
		name := fmt.Sprintf("e%d.example", i)
		step := random.IntN(6)
		steps = append(steps, []string{"good", "pods", "bad", "same", "grant", "deny"}[step])
		switch step {
		case 0:
			m.edit(entry(name), name, false)
			a.put(m.text)
		case 1:
			m.edit(entry(name, "pods verified"), name, true)
			a.put(m.text)
		case 2:
			m.edit("kubehosts {\nbogus "+name+"\n}\n", "", false)
			a.put(m.text)
		case 3: // a new resourceVersion of the same text
			m.edit(m.text, m.entry, m.pods)
			a.put(m.text)
		default:
			deny(step == 5)
		}
		check()
	}
	eventually(t, "the last Event", func() bool {
		told := a.written()
		return len(told) > 0 && isApplied(told[len(told)-1]) != m.rejected || len(told) >= 6 // the rest waits for a minute
	})
	if bad := slices.IndexFunc(a.written(), func(e string) bool { return !isApplied(e) && !strings.HasPrefix(e, "StanzaRejected: ") }); bad >= 0 {
		t.Errorf("another Event: %s", a.written()[bad])
	}
}

// unavailable are lasting refusals: the other failures take ten seconds to count.
var unavailable = []int{http.StatusForbidden, http.StatusUnauthorized}
