package status

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	golog "log"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// The exit codes of the command.
const (
	exitAnswered = 0 // there are records
	exitNone     = 1 // there are none
	exitUsage    = 2 // the command is wrong, or no server could be reached
)

const usage = `Usage: coredns explain [FLAGS] NAME [TYPE]

Explain shows why a query for NAME and TYPE (A by default) gets its answer, and which object or line provides it. An
address in place of NAME stands for its reverse name. It exits with 0 if there is an answer, 1 if there is none, and 2 if no
server could be reached.

`

// Command is the command "explain" with its arguments. It returns the exit code.
func Command(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(errs)
	conf := flags.String("conf", "", "Corefile to answer from, offline, with the manifests, hosts files and snapshots that it names")
	server := flags.String("server", "http://"+stanza.DefaultStatus, "`URL` of the status page of a running process")
	client := flags.String("client", "", "address of the querying pod")
	asJSON := flags.Bool("json", false, "print JSON")
	flags.Usage = func() {
		fmt.Fprint(errs, usage)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitAnswered
	case err != nil:
		return exitUsage
	}
	words := flags.Args()
	if len(words) == 0 || len(words) > 2 {
		flags.Usage()
		return exitUsage
	}
	qtype := ""
	if len(words) == 2 {
		qtype = words[1]
	}
	q, err := NewQuery(words[0], qtype, *client)
	var r *Result
	switch {
	case err != nil:
	case *conf != "":
		r, err = explainFile(*conf, q, errs)
	default:
		r, err = explainServer(*server, words[0], qtype, *client)
	}
	if err != nil {
		fmt.Fprintln(errs, "explain:", err)
		return exitUsage
	}
	if err := r.write(out, *asJSON); err != nil {
		fmt.Fprintln(errs, "explain:", err)
		return exitUsage
	}
	if r.Answered {
		return exitAnswered
	}
	return exitNone
}

func (r *Result) write(out io.Writer, asJSON bool) error {
	if !asJSON {
		return r.WriteText(out)
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// maxCorefile is the size of the largest Corefile that is read, in bytes.
const maxCorefile = 4 << 20

// explainFile explains the answer that a server with the Corefile would send.
func explainFile(path string, q Query, errs io.Writer) (*Result, error) {
	text, err := files.ReadAll(path, maxCorefile)
	if err != nil {
		return nil, err
	}
	golog.SetFlags(0)
	golog.SetOutput(troubleOnly{errs})
	s, closeAll, err := Offline(path, text)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	return s.Explain(context.Background(), q), nil
}

// troubleOnly passes on the warnings and errors of a log.
type troubleOnly struct{ w io.Writer }

func (t troubleOnly) Write(line []byte) (int, error) {
	if text := string(line); strings.Contains(text, "[WARNING]") || strings.Contains(text, "[ERROR]") {
		return t.w.Write(line)
	}
	return len(line), nil
}

// The bounds of a request to a running process.
const (
	askTime  = 15 * time.Second
	maxReply = 8 << 20 // bytes
)

// explainServer requests the explanation from a running process.
func explainServer(server, name, qtype, client string) (*Result, error) {
	base, err := url.Parse(strings.TrimSuffix(server, "/"))
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("server %q is not a URL such as http://%s", server, stanza.DefaultStatus)
	}
	u := base.JoinPath("explain.json")
	u.RawQuery = url.Values{"name": {name}, "type": {qtype}, "client": {client}}.Encode()
	hc := http.Client{Timeout: askTime}
	resp, err := hc.Get(u.String())
	if err != nil {
		return nil, fmt.Errorf("no status page at %s: %w; does the stanza have the status option? Without it, explain -conf answers from a Corefile", server, reasonOf(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s replies %s: %.300s", server, resp.Status, strings.TrimSpace(string(body)))
	}
	r := new(Result)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("%s is not a kubehosts status page: %w", server, err)
	}
	return r, nil
}

// reasonOf returns err without the URL.
func reasonOf(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
