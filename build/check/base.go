package check

import (
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// Edit returns the effects on a process that was started with the Corefile base when edited, a valid Corefile, replaces
// it in the ConfigMap.
//
// A stanza with the configmap option must stay within the bounds of that option. The rest is as with -configmap.
func Edit(base, edited *corefile.Text) []Finding {
	before, err := base.Blocks(dnsserver.Directives)
	if err != nil {
		return []Finding{found(err, base.Position(1).File)}
	}
	after, err := edited.Blocks(dnsserver.Directives)
	if err != nil {
		return []Finding{found(err, edited.Position(1).File)}
	}
	all := withinBounds(before, edited)
	top := edited.Position(1)
	switch e := corefile.Compare(before, after); {
	case IsWrong(all):
	case e.Empty():
		all = append(all, at(top, Note, "nothing to apply: it means the same as the Corefile of -base"))
	case e.Restart != "":
		all = append(all, at(top, Note, "applied with a restart of the server blocks, because of %s; the plugins' caches are lost", e.Restart))
	default:
		for i := range after {
			if e.Stanzas[i] != nil {
				all = append(all, at(after[i].Directives[stanza.Name][0].At, Note, "applied in place, without a restart"))
			}
		}
	}
	return sorted(all)
}

// withinBounds returns the stanzas of edited that the configmap option of the stanza in base would refuse, each
// with the reason.
func withinBounds(base []corefile.Block, edited *corefile.Text) (all []Finding) {
	for i := range base {
		c := configOf(&base[i])
		if c == nil || c.ConfigMap == nil {
			continue
		}
		written, err := stanza.ParseText(setupName, edited.Body, base[i].Keys, viewOf(&base[i]))
		if err == nil {
			_, err = written.Over(c)
		}
		if err != nil {
			e := edited.Locate(err, setupName, edited.Position(1))
			all = append(all, at(e.At, Wrong, "refused by the server block of %s, whose last good stanza goes on serving: %s", base[i].At, e.Text))
		}
	}
	return all
}

// viewOf returns the name of the view of a server block, "" if it has none.
func viewOf(b *corefile.Block) string {
	if words := b.Directives["view"]; len(words) > 1 {
		return words[1].Text
	}
	return ""
}
