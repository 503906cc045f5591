package check

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/kubehosts/kubehosts/build/corefile"
)

// Exit codes of Main.
const (
	exitGood  = 0
	ExitWrong = 1
	exitUsage = 2
)

// Alone is the environment variable that a running server sets when it calls this command to check a Corefile: the
// input is never a manifest then, and memory is bounded, to leave enough of the container's.
const Alone = "KUBEHOSTS_CHECK_ALONE"

const usage = `usage: coredns check [-conf FILE|-] [-base FILE] [-json] [-strict]

Checks a Corefile without starting it. FILE is a Corefile or a ConfigMap as 'kubectl get -o yaml' prints it; - is the standard
input. It prints a line for each finding, and exits with 0 if the Corefile is good, 1 if it has errors, and 2 for wrong usage.

`

// Main is the command `coredns check`. It returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if os.Getenv(Alone) != "" {
		boundMemory()
	}
	log.SetOutput(io.Discard) // the log of setups is for people who start a server
	clog.SetOutput(io.Discard)

	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	conf := flags.String("conf", "Corefile", "the Corefile or ConfigMap to check; - for the standard input")
	base := flags.String("base", "", "a Corefile or ConfigMap that a process was started with, to show the effect of a live edit")
	asJSON := flags.Bool("json", false, "print each finding as a JSON object with file, line, level and text")
	strict := flags.Bool("strict", false, "exit with 1 on warnings, too")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 || *conf == "-" && *base == "-" {
		flags.Usage()
		return exitUsage
	}
	all, err := files(*conf, *base, stdin)
	if err != nil {
		fmt.Fprintln(stderr, "coredns check:", err)
		return exitUsage
	}
	for _, f := range all {
		write(stdout, f, *asJSON)
	}
	if IsWrong(all) || *strict && slices.ContainsFunc(all, func(f Finding) bool { return f.Level == Warning }) {
		return ExitWrong
	}
	return exitGood
}

func write(w io.Writer, f Finding, asJSON bool) {
	line := f.String()
	if asJSON {
		b, _ := json.Marshal(f) // strings and an int
		line = string(b)
	}
	fmt.Fprintln(w, line)
}

// files checks the file conf and, unless base is "", as an edit of base. The error is that a file can't be read.
func files(conf, base string, stdin io.Reader) ([]Finding, error) {
	edited, err := read(conf, stdin)
	if err != nil {
		return nil, err
	}
	units, wrong := unitsOf(edited)
	all := wrong
	for _, u := range units {
		all = append(all, u.check()...)
	}
	if base == "" || IsWrong(all) {
		return all, nil
	}
	first, err := read(base, stdin)
	if err != nil {
		return nil, err
	}
	bases, wrong := unitsOf(first)
	switch all = append(all, wrong...); {
	case IsWrong(wrong):
	case len(units) != 1 || len(bases) != 1:
		all = append(all, at(corefile.Position{File: first.Name, Line: 1}, Wrong, "-base needs one Corefile on each side"))
	default:
		all = append(all, Edit(bases[0].text, units[0].text)...)
	}
	return all, nil
}

// read reads a file, or stdin for -.
func read(file string, stdin io.Reader) (corefile.Source, error) {
	if file != "-" {
		return corefile.File(file)
	}
	body, err := corefile.ReadAll(stdin)
	if err != nil {
		return corefile.Source{}, fmt.Errorf("standard input: %w", err)
	}
	dir, err := os.Getwd()
	return corefile.Source{Name: "stdin", Text: string(body), Dir: dir}, err
}

// unit is a Corefile to check.
type unit struct {
	text  *corefile.Text
	there map[string]corefile.Source // keys of the ConfigMap that the Corefile comes from
	part  bool                       // it is for imports, and may be empty
}

// check returns the findings of a unit.
func (u *unit) check() []Finding {
	if blocks, err := u.text.Blocks(nil); u.part && err == nil && corefile.Idle(blocks) {
		return nil
	}
	return Corefile(u.text, u.there)
}

// unitsOf returns the Corefiles to check in a file: the file itself if it is a Corefile, else those in its ConfigMaps.
// In a ConfigMap for imports, each key is one.
func unitsOf(s corefile.Source) (units []unit, wrong []Finding) {
	if os.Getenv(Alone) != "" || !corefile.IsManifest(s.Text) {
		text, err := corefile.Read(s, corefile.Files)
		if err != nil {
			return nil, []Finding{found(err, s.Name)}
		}
		return []unit{{text: text}}, nil
	}
	all, err := corefile.Manifest(s.Name, s.Text)
	if err != nil {
		return nil, []Finding{found(err, s.Name)}
	}
	for i := range all {
		u, w := unitsIn(&all[i], all, s)
		units, wrong = append(units, u...), append(wrong, w...)
	}
	if len(units) == 0 && len(wrong) == 0 {
		wrong = []Finding{at(corefile.Position{File: s.Name, Line: 1}, Wrong, "no ConfigMap in it has a key Corefile")}
	}
	return units, wrong
}

// unitsIn returns the Corefiles to check in m, one of all the ConfigMaps of a file.
func unitsIn(m *corefile.ConfigMap, all []corefile.ConfigMap, of corefile.Source) (units []unit, wrong []Finding) {
	imports := mapImporter(m, all)
	add := func(s corefile.Source, part bool) {
		s.Dir = of.Dir
		text, err := corefile.Read(s, imports)
		if err != nil {
			wrong = append(wrong, found(err, s.Name))
			return
		}
		units = append(units, unit{text, m.Keys, part})
	}
	if s, ok := m.Keys["Corefile"]; ok {
		add(s, false)
		return units, wrong
	}
	for _, key := range slices.Sorted(maps.Keys(m.Keys)) {
		s := m.Keys[key]
		switch {
		case len(all) > 1: // its importer is checked
		case strings.HasSuffix(key, ".server"):
			add(s, true)
		case strings.HasSuffix(key, ".override"):
			imports = only(s)
			add(corefile.Source{Name: s.Name, First: s.First, OneLine: true, Text: "override.invalid {\nimport override\n}\n"}, true)
		}
	}
	return units, wrong
}

// only returns an importer for one source, and for files.
func only(s corefile.Source) corefile.Importer {
	return func(pattern string, from *corefile.Source) ([]corefile.Source, error) {
		if pattern == "override" {
			return []corefile.Source{s}, nil
		}
		return corefile.Files(pattern, from)
	}
}

// mapImporter resolves the imports of a ConfigMap. They are its own keys, which are mounted beside the Corefile; the
// keys of another ConfigMap of the same file whose name is that of the folder, or ends with it, as coredns-custom for
// custom; else files here.
func mapImporter(m *corefile.ConfigMap, all []corefile.ConfigMap) corefile.Importer {
	return func(pattern string, from *corefile.Source) ([]corefile.Source, error) {
		dir := path.Dir(pattern)
		for i := range all {
			other, folder := &all[i], path.Base(dir)
			if other.Name == m.Name || other.Name != folder && !strings.HasSuffix(other.Name, "-"+folder) {
				continue
			}
			found, _, err := corefile.Mounted(pattern, dir, other.Keys)
			return found, err
		}
		if dir == "." || path.IsAbs(pattern) {
			if found, _, err := corefile.Mounted(pattern, dir, m.Keys); err == nil && len(found) > 0 {
				return found, nil
			}
		}
		return corefile.Files(pattern, from)
	}
}
