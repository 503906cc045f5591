package stanza

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// addHosts reads a hosts option: FILEs, and a block of inline lines and options of the stock hosts plugin.
func (d *draft) addHosts(o statement) error {
	if len(d.Hosts) == maxHosts {
		return errAt(o.words[0], "more than %d hosts options in a stanza: inline lines may share one, and a FILE may be a pattern", maxHosts)
	}
	if err := d.within(&d.files, len(o.words)-1, maxFiles, "FILEs of hosts", o.last()); err != nil {
		return err
	}
	h := Hosts{
		Files:  o.args(),
		TTL:    DefaultHostsTTL,
		Reload: DefaultHostsReload,
		Line:   o.words[0].Line,
		at:     o.words[0],
	}
	for _, f := range h.Files {
		if err := checkPath(f); err != nil {
			return o.errf("hosts: '%s' is neither a file nor a glob pattern: %v", f, err)
		}
	}
	for _, line := range o.block {
		before := len(h.Inline)
		if err := h.option(line); err != nil {
			return err
		}
		if err := d.within(&d.lines, len(h.Inline)-before, maxLines, "lines of hosts", line.words[0]); err != nil {
			return err
		}
	}
	if len(h.Files) == 0 && len(h.Inline) == 0 {
		h.Files = []string{DefaultHostsFile}
	}
	d.Hosts = append(d.Hosts, h)
	return nil
}

func (h *Hosts) option(o statement) error {
	switch o.name() {
	case "ttl":
		return h.setTTL(o)
	case "reload":
		return h.setReload(o)
	case "no_reverse":
		h.NoReverse = true
		return o.none()
	case "fallthrough_unsupported":
		h.FallthroughUnsupported = true
		return o.none()
	}
	return h.addInline(o)
}

func (h *Hosts) setTTL(o statement) error {
	if len(o.words) == 1 {
		return o.errf("ttl needs a time in second")
	}
	arg, err := o.one()
	if err != nil {
		return err
	}
	ttl, err := strconv.Atoi(arg)
	if err != nil {
		return o.errf("ttl needs a number of second")
	}
	if ttl <= 0 || ttl > 65535 {
		return o.errf("ttl provided is invalid")
	}
	h.TTL = uint32(ttl)
	return nil
}

func (h *Hosts) setReload(o statement) error {
	arg, err := o.one()
	if err != nil {
		return o.errf("reload needs a duration (zero seconds to disable)")
	}
	d, err := time.ParseDuration(arg)
	if err != nil {
		return o.errf("invalid duration for reload '%s'", arg)
	}
	if d < 0 {
		return o.errf("invalid negative duration for reload '%s'", arg)
	}
	h.Reload = d
	return nil
}

// addInline takes a line that is no option. Its words are joined and split again because an environment variable may
// bring several words, several lines, or a comment, all of which stock's hosts plugin understands. Stock drops a line
// without an address in silence; that would hide a misspelt option.
func (h *Hosts) addInline(o statement) error {
	text := strings.Join(append([]string{o.name()}, o.args()...), " ")
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		addr, _, _ := strings.Cut(fields[0], "%") // the zone of fe80::1%eth0
		if _, err := netip.ParseAddr(addr); err != nil {
			return errAt(o.words[0], "unknown property '%s': expecting ttl, no_reverse, reload, fallthrough_unsupported, or an IP address and its names", fields[0])
		}
		if len(fields) == 1 {
			return errAt(o.words[0], "no name after the address '%s'", fields[0])
		}
		h.Inline = append(h.Inline, InlineLine{strings.Join(fields, " "), o.words[0].Line})
	}
	return nil
}
