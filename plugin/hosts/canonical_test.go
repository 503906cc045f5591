package hosts

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// canonical is a hosts file from which the stock plugin serves the names of another file: by their wire form.
type canonical struct {
	text  string
	plain bool // stock reads the other file correctly by itself
	// unpointed are names that are no PTR targets: names beyond ASCII that have an ASCII form.
	unpointed map[string]bool
}

// canonicalize converts all names of text to the form of the DNS library. It leaves out names that stock's syntax can't
// spell, with a space or a # in them.
func canonicalize(text string, o Options) canonical {
	c := canonical{plain: true, unpointed: make(map[string]bool)}
	var b strings.Builder
	if strings.Contains(strings.ReplaceAll(text, "\r\n", "\n"), "\r") {
		c.plain = false
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r", "\n"), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\v\f\r", r) })
		for len(fields) > 0 && strings.HasPrefix(fields[0], "\ufeff") {
			c.plain = false
			if fields[0] = strings.TrimPrefix(fields[0], "\ufeff"); fields[0] != "" {
				break
			}
			fields = fields[1:]
		}
		if len(fields) == 0 || len(fields[0]) > maxField {
			continue
		}
		b.WriteString(fields[0])
		for _, field := range fields[1:] {
			names := wireForms(field, normalizeOrigins(o.Origins))
			if len(names) != 1 || names[0] != strings.ToLower(dns.Fqdn(field)) {
				c.plain = false
			}
			if len(names) == 2 {
				c.unpointed[names[1]] = true
			}
			for _, name := range names {
				if !strings.ContainsAny(name, " #") {
					b.WriteString(" " + name)
				}
			}
		}
		b.WriteByte('\n')
	}
	c.text = b.String()
	if c.plain {
		c.text = text
	}
	return c
}

// normalizeOrigins returns zones in the form of names in questions.
func normalizeOrigins(zones []string) (all []string) {
	for _, z := range zones {
		all = append(all, wireForm(z))
	}
	return all
}

// wireForms returns the names of a field, by the DNS library alone. If there are two, no PTR record leads to the
// first.
func wireForms(field string, origins []string) (names []string) {
	if len(field) > maxField || strings.Contains(field, "\x00") {
		return nil
	}
	ours := func(name string) {
		if name == "" {
			return
		}
		for _, z := range origins {
			if dns.IsSubDomain(z, name) {
				names = append(names, name)
				return
			}
		}
		if len(origins) == 0 {
			names = append(names, name)
		}
	}
	ours(asciiForm(field))
	ours(wireForm(field))
	return names
}

// wireForm returns the name of a field's octets, "" if they aren't a name.
func wireForm(field string) string {
	name := escapeOctets(field)
	if over255(name) {
		return ""
	}
	buf := make([]byte, 4096)
	n, err := dns.PackDomainName(dns.Fqdn(name), buf, 0, nil, false)
	if err != nil || n > 255 {
		return ""
	}
	name, _, err = dns.UnpackDomainName(buf[:n], 0)
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
}

// over255 reports whether an escape has a number over 255.
func over255(name string) bool {
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			continue
		}
		i++
		if i+2 < len(name) && digits(name[i:i+3]) && name[i:i+3] > "255" {
			return true
		}
	}
	return false
}

var escape = regexp.MustCompile(`(?s)\\(\d\d\d|.)`)

// asciiForm returns the name with its labels beyond ASCII as A-labels, "" if it has none, or they have no A-label.
func asciiForm(field string) string {
	name := dns.Fqdn(escapeOctets(field))
	if over255(name) || !dns.IsFqdn(name) || strings.Contains(escape.ReplaceAllString(name, "x"), "..") {
		return ""
	}
	var labels []string
	wide := false
	for _, label := range dns.SplitDomainName(name) {
		octets := unescapeOctets(label)
		if strings.IndexFunc(octets, func(r rune) bool { return r >= 0x80 }) < 0 {
			labels = append(labels, label)
			continue
		}
		a, err := idna.Lookup.ToASCII(octets)
		if err != nil || a == "" || strings.Contains(octets, ".") || len(octets) > 255 {
			return ""
		}
		labels = append(labels, a)
		wide = true
	}
	if !wide {
		return ""
	}
	return wireForm(strings.Join(labels, "."))
}

// escapeOctets escapes octets beyond ASCII, which the DNS library does not take literally.
func escapeOctets(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] < 0x80 {
				b.WriteByte('\\')
				b.WriteByte(s[i])
				continue
			}
		}
		if s[i] >= 0x80 {
			fmt.Fprintf(&b, `\%03d`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func unescapeOctets(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && digits(s[i+1:i+4]):
			b = append(b, 100*(s[i+1]-'0')+10*(s[i+2]-'0')+s[i+3]-'0')
			i += 3
		default:
			i++
			b = append(b, s[i])
		}
	}
	return string(b)
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }
