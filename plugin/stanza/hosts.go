package stanza

import (
	"fmt"
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
	for i, f := range h.Files {
		if err := checkPath(f); err != nil {
			return o.errf("hosts: '%s' is neither a file nor a glob pattern: %v", f, err)
		}
		if isNetwork(f) || i > 0 && strings.HasSuffix(f, ".") {
			return h.leftZone(f)
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

// ErrorAt returns an error at a line of the option's text, in the form of all other errors.
func (h *Hosts) ErrorAt(line int, format string, args ...any) error {
	t := h.at
	t.Line = line
	return errAt(t, format, args...)
}

// At returns the place of a line of the option's text: "Corefile:12".
func (h *Hosts) At(line int) string { return fmt.Sprintf("%s:%d", h.at.File, line) }

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
	case "fallthrough":
		return h.checkFallthrough(o)
	}
	return h.addInline(o)
}

// checkFallthrough accepts the fallthrough of a stanza that came from the hosts plugin, which has no effect here. It
// refuses one with zones, which would make names outside them fail.
func (h *Hosts) checkFallthrough(o statement) error {
	if len(o.words) > 1 {
		return o.errf("hosts: fallthrough takes no zones here, since names without an entry always go on: write fallthrough without zones, or leave it out")
	}
	return nil
}

// isNetwork reports whether s is a network, such as 10.0.0.0/8, and so not a FILE.
func isNetwork(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}

// Missing returns an error if the FILE at an index, which does not exist, may be a zone left after FILE from a stanza
// of the hosts plugin (hosts FILE ZONES...). It returns nil if it may be a file that does not exist yet: if it is the
// first, or has a slash in it, or the extension of a hosts file.
func (h *Hosts) Missing(index int) error {
	f := h.Files[index]
	if index == 0 || strings.Contains(f, "/") {
		return nil
	}
	for _, ending := range []string{".hosts", ".txt", ".conf", ".list"} {
		if strings.HasSuffix(f, ending) {
			return nil
		}
	}
	if _, err := addressesOf(f); err != nil {
		return nil
	}
	return h.leftZone(f)
}

// leftZone is the error for a zone among the FILEs.
func (h *Hosts) leftZone(zone string) error {
	file, hint := h.Files[0], fmt.Sprintf("; if it is a file that does not exist yet, write ./%s", zone)
	if isNetwork(zone) {
		hint = ""
	}
	if file == zone {
		file = "FILE"
	}
	return errAt(h.at, "hosts: '%s' is a zone, but hosts takes no zones after FILE, since it serves names in all zones of the server block: leave the zones out, "+
		"or put '%s { hosts %s }' into a server block of these zones%s", clip(zone, 200), Name, clip(file, 200), clip(hint, 300))
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

// addInline reads a line that is not an option. Its words are joined and split again because an environment variable
// may contain several words, several lines, or a comment, and stock's hosts plugin accepts all of them. Stock silently
// drops a line without an address; that would hide a misspelt option.
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
			return errAt(o.words[0], "unknown property '%s': expecting ttl, no_reverse, reload, fallthrough, fallthrough_unsupported, or an IP address and its names", fields[0])
		}
		if len(fields) == 1 {
			return errAt(o.words[0], "no name after the address '%s'", fields[0])
		}
		h.Inline = append(h.Inline, InlineLine{strings.Join(fields, " "), o.words[0].Line})
	}
	return nil
}
