package corefile

import (
	"slices"

	"github.com/coredns/caddy/caddyfile"

	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// Edit is what changes from one Corefile to the next.
type Edit struct {
	Restart string         // what makes a restart of the server necessary, for people; "" if nothing does
	Stanzas map[int]Config // the kubehosts stanzas that changed, by their server block, if no restart is necessary
}

// Config is the kubehosts stanza of a server block.
type Config = *stanza.Config

// Empty reports whether nothing changed that CoreDNS reads.
func (e Edit) Empty() bool { return e.Restart == "" && len(e.Stanzas) == 0 }

// Compare returns what changes from the server blocks before to after. Both are of Corefiles that CoreDNS takes.
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

// other returns a directive besides kubehosts in which two server blocks differ, "" if there is none. That one of them alone has
// kubehosts is a difference, too.
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

// replaced returns the stanza of after if it can take the place of that of before without a restart, else what it can't change.
func replaced(before, after *Block) (Config, string) {
	was, err := before.Stanza()
	if err != nil {
		return nil, "a stanza that is wrong"
	}
	is, err := after.Stanza()
	if err != nil {
		return nil, "a stanza that is wrong"
	}
	if option := is.FixedIn(was); option != "" {
		return nil, option
	}
	return is, ""
}

// Stanza returns what the kubehosts stanza of the server block says. It has one.
func (b *Block) Stanza() (Config, error) {
	words := b.Directives[stanza.Name]
	d := caddyfile.NewDispenserTokens(words[0].At.File, Tokens(words))
	return stanza.Parse(&d, b.Keys)
}
