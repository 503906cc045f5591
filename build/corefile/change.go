package corefile

import (
	"slices"

	"github.com/coredns/caddy/caddyfile"

	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// Edit is the difference between one Corefile and the next.
type Edit struct {
	Restart string         // why the server must restart, for people; "" if it need not
	Stanzas map[int]Config // the kubehosts stanzas that changed, by their server block, if no restart is needed
}

// Config is the kubehosts stanza of a server block.
type Config = *stanza.Config

// Empty reports whether nothing that CoreDNS reads changed.
func (e Edit) Empty() bool { return e.Restart == "" && len(e.Stanzas) == 0 }

// Compare returns the difference between the server blocks before and after. Both are of Corefiles that CoreDNS
// accepts.
func Compare(before, after []Block) Edit {
	if len(before) != len(after) {
		return Edit{Restart: "the server blocks"}
	}
	e := Edit{Stanzas: map[int]Config{}}
	for i := range after {
		if !slices.Equal(before[i].Keys, after[i].Keys) {
			return Edit{Restart: "the keys of the server block of " + after[i].At.String()}
		}
		if name := other(&before[i], &after[i]); name != "" {
			return Edit{Restart: name + " in the server block of " + after[i].At.String()}
		}
		was, is := before[i].Directives[stanza.Name], after[i].Directives[stanza.Name]
		if Same(was, is) {
			continue
		}
		c, option := replaced(&before[i], &after[i])
		if c == nil {
			return Edit{Restart: option + " in the " + stanza.Name + " stanza of " + is[0].At.String()}
		}
		e.Stanzas[i] = c
	}
	return e
}

// other returns a directive besides kubehosts in which two server blocks differ, "" without one. It is also a
// difference if only one of them has kubehosts.
func other(before, after *Block) string {
	for _, b := range []*Block{before, after} {
		for _, name := range b.Names() {
			was, is := before.Directives[name], after.Directives[name]
			if (was == nil) != (is == nil) || name != stanza.Name && !Same(was, is) {
				return name
			}
		}
	}
	return ""
}

// replaced returns the stanza of after if it can replace that of before without a restart, else the obstacle.
func replaced(before, after *Block) (Config, string) {
	was, err := before.Stanza()
	if err != nil {
		return nil, "an invalid stanza"
	}
	is, err := after.Stanza()
	if err != nil {
		return nil, "an invalid stanza"
	}
	if option := is.FixedIn(was); option != "" {
		return nil, option
	}
	return is, ""
}

// Stanza returns the kubehosts stanza of the server block, which must have one.
func (b *Block) Stanza() (Config, error) {
	words := b.Directives[stanza.Name]
	d := caddyfile.NewDispenserTokens(words[0].At.File, Tokens(words))
	return stanza.Parse(&d, b.Keys)
}
