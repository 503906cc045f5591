package check

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/parse"

	"github.com/kubehosts/kubehosts/build/corefile"
)

const (
	// maxFindings limits the invalid stanzas that are searched for.
	maxFindings = 20
	// maxTrials limits the runs of the setups to find the stanza of an error without a line.
	maxTrials = 50
)

// reachesOut returns why the setup of a plugin is not called, "" if it is called. Such a setup contacts another
// machine, or needs something that the serving process holds.
func reachesOut(name string, words []corefile.Word) string {
	has := func(option string) bool {
		return slices.ContainsFunc(words, func(w corefile.Word) bool { return w.NewLine && w.Text == option })
	}
	switch {
	case name == "route53" || name == "clouddns" || name == "azure":
		return "its setup contacts the cloud"
	case name == "etcd" && has("credentials"):
		return "its setup logs in to etcd"
	case name == "dnssec" && slices.ContainsFunc(words, func(w corefile.Word) bool { return w.Text == "aws_secretsmanager" }):
		return "its setup gets the key from AWS Secrets Manager"
	case name == "dynupdate" && has("database"):
		return "its setup opens the database, which a running server has open"
	}
	return ""
}

// setUp runs every plugin's setup on its stanza, and has CoreDNS make the servers. It finds further invalid stanzas by
// leaving out those already found.
func setUp(blocks []corefile.Block) (all []Finding) {
	blocks, all = checkable(blocks)
	for range maxFindings {
		err := run(blocks)
		if err == nil {
			break
		}
		block, name := culprit(blocks, err)
		if block < 0 {
			return append(all, at(firstLine(blocks), Wrong, "%s", clip(err.text)))
		}
		where := err.at
		if where.File == "" {
			where = blocks[block].At
			if name != "" {
				where = blocks[block].Directives[name][0].At
			}
		}
		all = append(all, at(where, Wrong, "%s", clip(err.text)))
		blocks = without(blocks, block, name)
	}
	return all
}

func firstLine(blocks []corefile.Block) corefile.Position {
	if len(blocks) == 0 {
		return corefile.Position{}
	}
	return blocks[0].At
}

// checkable returns blocks without the stanzas whose setup reaches out, with a warning for each.
func checkable(blocks []corefile.Block) (some []corefile.Block, all []Finding) {
	some = blocks
	for i := range blocks {
		for _, name := range blocks[i].Names() {
			words := blocks[i].Directives[name]
			if why := reachesOut(name, words); why != "" {
				all = append(all, at(words[0].At, Warning, "%s is not checked: %s", name, why))
				some = without(some, i, name)
			}
		}
		if words, ok := blocks[i].Directives["kubernetes"]; ok {
			some = with(some, i, "kubernetes", outsideCluster(words))
		}
		if words, ok := blocks[i].Directives["forward"]; ok {
			static, more := notLookedUp(words)
			some, all = with(some, i, "forward", static), append(all, more...)
		}
	}
	return some, all
}

// outsideCluster adds an API server to a stanza of the stock kubernetes plugin without one. It is never contacted, but
// without it the setup fails outside a cluster.
func outsideCluster(words []corefile.Word) []corefile.Word {
	for _, line := range corefile.Lines(words) {
		if line[0].Text == "endpoint" || line[0].Text == "kubeconfig" {
			return words
		}
	}
	endpoint := []corefile.Word{{Text: "endpoint", At: words[0].At, NewLine: true}, {Text: "http://127.0.0.1:1", At: words[0].At}}
	open := slices.IndexFunc(words, func(w corefile.Word) bool { return w.Text == "{" })
	if open >= 0 {
		return slices.Insert(slices.Clone(words), open+1, endpoint...)
	}
	line := len(corefile.Lines(words)[0])
	block := slices.Concat([]corefile.Word{{Text: "{", At: words[0].At}}, endpoint, []corefile.Word{{Text: "}", At: words[0].At, NewLine: true}})
	return slices.Insert(slices.Clone(words), line, block...)
}

// notLookedUp replaces each name of an upstream, which the setup of forward would look up, with an address, and warns.
func notLookedUp(words []corefile.Word) (static []corefile.Word, all []Finding) {
	static = slices.Clone(words)
	depth := 0
	for i, n := 0, 0; i < len(words); i, n = i+1, n+1 {
		w := words[i]
		switch {
		case w.Text == "{":
			depth++
		case w.Text == "}":
			depth--
		case depth > 0:
		case w.NewLine:
			n = 0 // forward itself; 1 is the zone
		case n > 1:
			trans, host := parse.Transport(w.Text)
			_, err := parse.HostPortOrFile(w.Text)
			if err == nil || host == "" || !strings.Contains(err.Error(), "not an IP address or file") {
				continue
			}
			static[i].Text = trans + "://192.0.2.1"
			if strings.ContainsAny(host, "/") {
				all = append(all, at(w.At, Wrong, "plugin/forward: there is no file '%s' here, and it is not an address", clip(host)))
			} else {
				all = append(all, at(w.At, Warning, "upstream %s of forward is not checked: its setup looks up the name", clip(host)))
			}
		}
	}
	return static, all
}

// without returns blocks without the stanzas of a directive in a server block, or without the server block if name is
// "".
func without(blocks []corefile.Block, block int, name string) []corefile.Block {
	if name == "" {
		return slices.Delete(slices.Clone(blocks), block, block+1)
	}
	return with(blocks, block, name, nil)
}

// with returns blocks with other words for a directive of a server block. Without words, the directive is
// removed.
func with(blocks []corefile.Block, block int, name string, words []corefile.Word) []corefile.Block {
	blocks = slices.Clone(blocks)
	b := &blocks[block]
	directives := make(map[string][]corefile.Word, len(b.Directives))
	for n, w := range b.Directives {
		directives[n] = w
	}
	if delete(directives, name); len(words) > 0 {
		directives[name] = words
	}
	b.Directives = directives
	return blocks
}

// setupError is the error of a plugin's setup, or of CoreDNS, for a Corefile.
type setupError struct {
	at   corefile.Position // zero if it names no line
	word corefile.Word     // first word of its line
	text string
}

// setupName is CoreDNS's name for the Corefile while its setups run, which its errors quote.
const setupName = "Corefile-to-check"

// run runs the setups of the plugins, and has CoreDNS make the servers. Nothing is started. A panic is an error.
func run(blocks []corefile.Block) *setupError {
	if len(blocks) == 0 {
		return nil
	}
	lastly.register()
	last := []corefile.Word{{Text: lastly.name, At: blocks[0].At, NewLine: true}}
	body, lines := corefile.Write(with(blocks, 0, lastly.name, last))
	err := validate(body)
	if err == nil {
		return nil
	}
	line, text := corefile.Line(err, setupName)
	e := &setupError{text: text}
	if line > 0 && line <= len(lines) && lines[line-1].Text != "" {
		e.at, e.word = lines[line-1].At, lines[line-1]
	}
	return e
}

// validate runs the setups on a Corefile.
func validate(body string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: %v", setupPanics, v)
		}
	}()
	return caddy.ValidateAndExecuteDirectives(caddy.CaddyfileInput{Filepath: setupName, Contents: []byte(body), ServerTypeName: "dns"}, nil, true)
}

// culprit returns the server block and the directive of an error, -1 if they can't be found.
func culprit(blocks []corefile.Block, err *setupError) (block int, name string) {
	if err.at.File != "" {
		for i := range blocks {
			for _, name := range blocks[i].Names() {
				if slices.Contains(blocks[i].Directives[name], err.word) {
					return i, name
				}
			}
		}
	}
	trials := 0
	changed := func(block int, name string) bool {
		trials++
		then := run(without(blocks, block, name))
		return then == nil || then.text != err.text
	}
	first, firstName := -1, ""
	for _, name := range named(err.text) {
		for i := range blocks {
			if blocks[i].Directives[name] == nil || trials == maxTrials {
				continue
			}
			if first < 0 {
				first, firstName = i, name
			}
			if changed(i, name) {
				return i, name
			}
		}
	}
	if first >= 0 {
		return first, firstName
	}
	for i := len(blocks) - 1; i >= 0 && trials < maxTrials; i-- {
		if changed(i, "") {
			return i, ""
		}
	}
	return -1, ""
}

// named returns the directives that an error without a line may concern: the one whose plugin it names, else all.
func named(text string) []string {
	if rest, ok := strings.CutPrefix(text, "plugin/"); ok {
		name, _, _ := strings.Cut(rest, ":")
		if slices.Contains(dnsserver.Directives, name) {
			return []string{name}
		}
	}
	if rest, ok := strings.CutPrefix(text, "no action found for directive '"); ok { // a plugin that is not in this build
		name, _, _ := strings.Cut(rest, "'")
		return []string{name}
	}
	if strings.HasPrefix(text, setupPanics) {
		return dnsserver.Directives
	}
	return nil
}

const setupPanics = "a setup panics"

// lastly is a directive after all others. Its setup makes the servers of the Corefile, the next step of a start: that
// is where CoreDNS detects two server blocks with one key.
var lastly = makeServers{name: "servers-to-check"}

type makeServers struct {
	name string
	once sync.Once
}

func (m *makeServers) register() {
	m.once.Do(func() {
		dnsserver.Directives = append(slices.Clone(dnsserver.Directives), m.name)
		caddy.RegisterPlugin(m.name, caddy.Plugin{ServerType: "dns", Action: func(c *caddy.Controller) error {
			_, err := c.Context().MakeServers()
			return err
		}})
	})
}
