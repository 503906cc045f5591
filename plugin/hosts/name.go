package hosts

// within reports whether name is in one of the zones, or there are no zones.
func within(zones []string, name []byte) bool {
	for _, z := range zones {
		if z == "." || string(name) == z || below(view(name), z) {
			return true
		}
	}
	return len(zones) == 0
}

// below reports whether name is below node. Both are fully qualified, and
// node is not the root.
func below(name, node string) bool {
	dot := len(name) - len(node) - 1
	return dot >= 0 && name[dot] == '.' && name[dot+1:] == node && !escaped(name[:dot])
}

// escaped reports whether the character after s is escaped: an odd number of
// backslashes come before it.
func escaped(s string) bool {
	n := 0
	for n < len(s) && s[len(s)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// parent returns a fully qualified name from the dot after its first label on, or nothing if it has
// only one label.
func parent(name string) string {
	for i := 0; i < len(name)-1; i++ {
		switch name[i] {
		case '\\':
			i++
		case '.':
			return name[i:]
		}
	}
	return ""
}

// above returns a fully qualified name without its first label, or nothing if it has only one. For
// a wildcard, whose record has no asterisk, it returns the part after the dot.
func above(name string) string {
	if p := parent(name); p != "" {
		return p[1:]
	}
	return ""
}
