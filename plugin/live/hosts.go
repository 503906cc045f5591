package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// CheckFiles warns of hosts files that do not exist yet, which may be intended. It refuses files that can't be
// accessed, and zones in the place of a file.
func (b *Block) CheckFiles() error {
	if len(b.base.Endpoints) > 1 {
		log.Warningf("Multiple endpoints have been deprecated, only the first specified endpoint '%s' is used", safe.Printable(b.base.Endpoint()))
	}
	return b.checkFiles(b.base)
}

// checkFiles is CheckFiles for the hosts files of c, a stanza of the Corefile.
func (b *Block) checkFiles(c *stanza.Config) error {
	for _, h := range c.Hosts {
		for i, path := range b.paths(h.Files) {
			if strings.ContainsAny(path, "*?[") {
				continue
			}
			info, err := files.Stat(path)
			switch {
			case os.IsNotExist(err):
				if err := h.Missing(i); err != nil {
					return err
				}
				log.Warningf("Hosts file %s does not exist; it will be served when it appears", safe.Printable(path))
			case err != nil:
				return fmt.Errorf("unable to access hosts file '%s': %s", safe.Printable(path), safe.Printable(err.Error()))
			case info.IsDir():
				log.Warningf("Hosts file %s is a directory; write %s to serve the files in it", safe.Printable(path), safe.Printable(filepath.Join(path, "*")))
			}
		}
	}
	return nil
}

// layersOf returns the layers of c's hosts options, in their order: one for each FILE, and one for the inline lines of
// an option. Entries that several options share form one layer, with the lowest of their TTLs.
func (b *Block) layersOf(c *stanza.Config, files map[string]*tableUse) (*layers, error) {
	l := layers{known: make(map[string]int)}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		for _, path := range b.paths(h.Files) {
			_ = l.add(layerOrigin{file: path}, "file "+path, h, func() (*answer.Tables, error) { return &files[path].of.tables, nil })
		}
		if len(h.Inline) == 0 {
			continue
		}
		text := inlineText(h)
		if err := l.add(layerOrigin{inline: h}, "lines "+text, h, func() (*answer.Tables, error) { return inlineTables(h, text, b.origins()) }); err != nil {
			return nil, err
		}
	}
	return &l, nil
}

// layers are the layers of a stanza under construction.
type layers struct {
	all     []answer.Layer
	origins []layerOrigin  // of each layer in all
	known   map[string]int // the index in all of a FILE, or of inline lines
}

// layerOrigin is where the entries of a layer come from: the files of a FILE, or the lines of an option.
type layerOrigin struct {
	file   string
	inline *stanza.Hosts
}

// add adds the layer name, with the options of h. It calls open if the layer is new.
func (l *layers) add(of layerOrigin, name string, h *stanza.Hosts, open func() (*answer.Tables, error)) error {
	if i, known := l.known[name]; known {
		layer := &l.all[i]
		layer.TTL = min(layer.TTL, h.TTL)
		layer.NoReverse = layer.NoReverse && h.NoReverse
		layer.PassOn = layer.PassOn && h.FallthroughUnsupported
		return nil
	}
	tables, err := open()
	if err != nil {
		return err
	}
	l.known[name] = len(l.all)
	l.origins = append(l.origins, of)
	l.all = append(l.all, answer.Layer{Tables: tables, TTL: h.TTL, NoReverse: h.NoReverse, PassOn: h.FallthroughUnsupported})
	return nil
}

// inlineText returns the inline lines of h in the form of a hosts file.
func inlineText(h *stanza.Hosts) string {
	var b strings.Builder
	for _, line := range h.Inline {
		b.WriteString(line.Text)
		b.WriteByte('\n')
	}
	return b.String()
}

// inlineTables parses text, the inline lines of h. The error lists the parts that can't be used, up to ten.
func inlineTables(h *stanza.Hosts, text string, origins []string) (*answer.Tables, error) {
	table, err := hosts.Parse(strings.NewReader(text), hosts.Options{Origins: origins})
	if err != nil {
		return nil, err
	}
	problems, n := table.Problems()
	if n == 0 {
		warnings, _ := table.Warnings()
		for _, w := range warnings {
			log.Warningf("The stanza's hosts line %d: %s", h.Inline[w.Line-1].Line, w.Reason)
		}
		return answer.NewTables(table), nil
	}
	var all []string
	for _, p := range problems {
		all = append(all, fmt.Sprintf("hosts line %d: %s", h.Inline[p.Line-1].Line, strings.TrimSuffix(p.Reason, "; left out")))
	}
	if more := n - len(problems); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return nil, h.ErrorAt(h.Inline[problems[0].Line-1].Line, "%s", strings.Join(all, "; "))
}
