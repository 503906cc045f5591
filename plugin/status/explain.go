package status

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/message"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// Query is a question to explain. Make one with NewQuery.
type Query struct {
	name     string // as in the query; with the final dot if it is not to be searched
	qtype    uint16
	client   netip.Addr // the zero Addr for none
	reversed string     // the address of the reverse name, if the query is for one
}

// maxNameText limits the bytes of a name, with each octet escaped.
const maxNameText = 1024

// NewQuery makes a Query from a name, a type, "" for A, and the address of a client, "" for none. An address in place
// of the name stands for its reverse name and PTR.
func NewQuery(name, qtype, client string) (q Query, err error) {
	if client != "" {
		if q.client, err = netip.ParseAddr(client); err != nil {
			return q, fmt.Errorf("client %.100q is not an IP address", client)
		}
		q.client = q.client.Unmap()
	}
	q.qtype = dns.TypeA
	if ip, err := netip.ParseAddr(name); err == nil && ip.Zone() == "" {
		q.reversed, q.qtype = name, dns.TypePTR
		name, _ = dns.ReverseAddr(ip.Unmap().String()) // it is an address
	}
	if qtype != "" {
		if q.qtype, err = parseType(qtype); err != nil {
			return q, err
		}
	}
	if len(name) > maxNameText {
		return q, fmt.Errorf("the name is longer than %d bytes", maxNameText)
	}
	absolute := dns.IsFqdn(name)
	full, ok := presentation(name)
	switch {
	case name == "":
		return q, errors.New("the name is empty; write . for the root")
	case !ok:
		return q, fmt.Errorf("%.100q is not a domain name", name)
	}
	if q.name = full; !absolute {
		q.name = strings.TrimSuffix(full, ".")
	}
	return q, nil
}

func parseType(text string) (uint16, error) {
	text = strings.ToUpper(text)
	if t, ok := dns.StringToType[text]; ok {
		return t, nil
	}
	var n uint16
	if _, err := fmt.Sscanf(text, "TYPE%d", &n); err == nil && text == fmt.Sprintf("TYPE%d", n) {
		return n, nil
	}
	return 0, fmt.Errorf("%.100q is not a record type such as A, AAAA, SRV or PTR", text)
}

// presentation returns a name in the form of questions, fully qualified.
func presentation(name string) (string, bool) {
	var wire [255]byte
	n, err := dns.PackDomainName(dns.Fqdn(name), wire[:], 0, nil, false)
	if err != nil {
		return "", false
	}
	full, _, err := dns.UnpackDomainName(wire[:n], 0)
	return full, err == nil
}

// Result is the explanation of a Query.
type Result struct {
	Asked    string  `json:"asked"`
	Type     string  `json:"type"`
	Client   string  `json:"client,omitempty"`
	Answered bool    `json:"answered"` // there are records, as far as kubehosts decides
	Search   []Tried `json:"search,omitempty"`
	// Explanations are for one name, one for each server block that may get it.
	Explanations []Explanation `json:"explanations"`
}

// Tried is a name of a search list.
type Tried struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"`
	First   bool   `json:"first,omitempty"` // it is the first name that exists
}

// Explanation is the reason for the answer to one name.
type Explanation struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Server   string   `json:"server"`
	Answered bool     `json:"answered"`
	Rcode    string   `json:"rcode,omitempty"` // "" if another plugin answers
	TTL      uint32   `json:"ttl"`
	Records  []string `json:"records,omitempty"`
	Next     string   `json:"next,omitempty"` // the plugins that get the question if kubehosts passes it on
	Lines    []Line   `json:"lines"`
}

// Line is a step on the way to the answer, in words. A Line without a label continues the one before it.
type Line struct {
	Label string `json:"label"`
	Text  string `json:"text"`
}

// Explain explains the answer to q. It requests details that are not in memory from the API server, for 2 s at most for
// each object involved.
func (s *Servers) Explain(ctx context.Context, q Query) *Result {
	r := &Result{Asked: q.name, Type: dns.Type(q.qtype).String()}
	if q.client.IsValid() {
		r.Client = q.client.String()
	}
	tries := s.searched(q)
	chosen := -1
	for i, t := range tries {
		answers := s.ask(t.name, q.qtype)
		exists := slices.ContainsFunc(answers, func(a asked) bool { return a.exists() })
		if exists && chosen < 0 {
			chosen = i
		}
		if len(tries) > 1 {
			r.Search = append(r.Search, Tried{Name: t.name, Outcome: outcomeOf(answers), First: exists && chosen == i})
		}
	}
	if chosen < 0 {
		chosen = s.likeliest(tries)
	}
	t := tries[chosen]
	for _, a := range s.ask(t.name, q.qtype) {
		r.Explanations = append(r.Explanations, s.explain(ctx, a, t.note))
	}
	r.Answered = slices.ContainsFunc(r.Explanations, func(e Explanation) bool { return e.Answered })
	return r
}

// try is a name that a resolver queries.
type try struct {
	name string // fully qualified
	note string // its origin; "" for the name in the question
}

// manyDots is the number of dots from which a pod's resolver queries a name unchanged before it searches: ndots in
// the resolv.conf that the kubelet writes.
const manyDots = 5

// searched returns the names that a pod's resolver queries for the name of q, in that order.
func (s *Servers) searched(q Query) []try {
	if dns.IsFqdn(q.name) {
		note := ""
		if q.reversed != "" {
			note = "the reverse name of " + q.reversed
		}
		return []try{{q.name, note}}
	}
	itself := try{q.name + ".", ""}
	cluster := s.cluster()
	if cluster == "" {
		return []try{itself}
	}
	namespace, pod := s.namespaceOf(q.client)
	list := append(answer.SearchList(namespace, cluster), s.Search...)
	var all []try
	for i, domain := range list {
		full, ok := presentation(answer.Under(q.name+".", domain))
		if !ok {
			continue
		}
		all = append(all, try{full, fmt.Sprintf("%s name of the search list of %s", ordinal(i+1), pod)})
	}
	if dns.CountLabel(q.name)-1 >= manyDots {
		return append([]try{itself}, all...)
	}
	return append(all, itself)
}

func ordinal(n int) string {
	words := []string{"first", "second", "third", "fourth", "fifth", "sixth"}
	if n <= len(words) {
		return words[n-1]
	}
	return fmt.Sprintf("%dth", n)
}

// namespaceOf returns the namespace of the pod that has the address, and a description of the pod. It is known if
// pods are verified, or if the pod is a ready endpoint of a Service. Otherwise the namespace is default.
func (s *Servers) namespaceOf(client netip.Addr) (namespace, pod string) {
	for i := range s.All {
		now, ok := s.All[i].now()
		if !ok || !client.IsValid() {
			continue
		}
		state := now.View.Index.State()
		if p := state.PodWith(client); p != nil {
			return p.Namespace(), fmt.Sprintf("pod %s/%s", p.Namespace(), p.ObjectName())
		}
		for sl := range state.SlicesWith(client) {
			return sl.Namespace(), "a pod in " + sl.Namespace()
		}
	}
	if client.IsValid() {
		return "default", fmt.Sprintf("a pod in default, since no known pod has %s", client)
	}
	return "default", "a pod in default"
}

// likeliest returns the index of the name to explain if none exists: the one with the most existing
// labels.
func (s *Servers) likeliest(tries []try) (best int) {
	most := 0
	for i, t := range tries {
		for _, a := range s.ask(t.name, dns.TypeA) {
			if how := a.likeliness(); how > most {
				best, most = i, how
			}
		}
	}
	return best
}

// likeliness rises with the number of labels of the name that exist.
func (a *asked) likeliness() int {
	if n, ok := nameOf(&a.answer, a.answer.Lower); !ok || n.Kind != services.Svc {
		return 0
	}
	switch n, _ := nameOf(&a.answer, a.answer.Lower); a.answer.Match().Why {
	case services.NotDefined:
		return 0
	case services.NoNamespace, services.NoService:
		how := 1
		if n.Endpoint == "" && n.Port == "" {
			how++
		}
		if a.answer.Match().Why == services.NoService {
			how += 2
		}
		return how
	}
	return 5
}

// asked is an answer with its server block.
type asked struct {
	server *Server // nil without one
	now    live.Now
	ours   bool // the server block has a stanza
	answer answer.Answer
}

// ask queries all server blocks that may get the name.
func (s *Servers) ask(name string, qtype uint16) (all []asked) {
	question := answer.NewQuestion(name, qtype, dns.ClassINET)
	for _, server := range s.of(question.Lower) {
		a := asked{server: server}
		a.answer.Question, a.answer.Outcome = question, answer.NotOurs
		if a.now, a.ours = server.now(); a.ours {
			a.answer = a.now.View.Answer(question)
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		a := asked{}
		a.answer.Question, a.answer.Outcome = question, answer.Refused
		all = append(all, a)
	}
	return all
}

// exists reports whether the name exists, as far as kubehosts decides.
func (a *asked) exists() bool {
	return a.answer.Outcome == answer.Follow || a.answer.Outcome == answer.Ours && a.answer.Rcode == dns.RcodeSuccess
}

// reply returns the message of the answer.
func (a *asked) reply() *dns.Msg {
	return message.Reply(new(dns.Msg).SetQuestion(a.answer.Name, a.answer.Type), &a.answer)
}

// outcomeOf describes the answers in a few words.
func outcomeOf(all []asked) string {
	var words []string
	for _, a := range all {
		if w := a.outcome(); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return strings.Join(words, "; ")
}

func (a *asked) outcome() string {
	switch {
	case a.server == nil:
		return "REFUSED: no server block has it"
	case a.answer.Outcome == answer.Refused:
		return "REFUSED"
	case a.answer.Outcome == answer.NotOurs && a.next() == "":
		return "SERVFAIL: no plugin answers"
	case a.answer.Outcome == answer.NotOurs:
		return "passed on to " + a.next()
	case a.answer.Outcome == answer.Follow:
		return "NOERROR, an alias of " + a.answer.Target()
	}
	text := dns.RcodeToString[a.answer.Rcode]
	if a.answer.Rcode != dns.RcodeSuccess {
		return text
	}
	switch n := len(a.reply().Answer); n {
	case 0:
		return text + ", no such record"
	case 1:
		return text + ", 1 record"
	default:
		return fmt.Sprintf("%s, %d records", text, n)
	}
}

// next names the plugins that a question is passed on to, "" if there are none.
func (a *asked) next() string {
	plugins := a.server.Plugins
	if a.ours {
		plugins = a.server.behind()
	}
	var all []string
	for _, p := range plugins {
		if slices.Contains(answering, p) {
			all = append(all, p)
		}
	}
	return strings.Join(all, ", then ")
}

// answering are the plugins after kubehosts that answer questions passed on.
var answering = []string{
	"hosts", "route53", "azure", "clouddns", "k8s_external", "kubernetes", "file", "auto", "secondary", "etcd", "forward", "grpc",
	"erratic", "whoami", "nomad",
	"template", "rewrite", "local", "any", "chaos", // in server blocks without a stanza
}

// explanation builds an Explanation.
type explanation struct {
	Explanation
	asked
	ctx     context.Context
	servers *Servers
	facts   map[string]source.Facts // of Services, by owner
}

func (s *Servers) explain(ctx context.Context, a asked, note string) Explanation {
	e := &explanation{asked: a, ctx: ctx, servers: s, facts: make(map[string]source.Facts)}
	e.Name, e.Type = a.answer.Name, dns.Type(a.answer.Type).String()
	text := e.Name + " " + e.Type
	if note != "" {
		text += "  (" + note + ")"
	}
	e.say("asked", "%s", text)
	if a.server == nil {
		e.Rcode = "REFUSED"
		e.say("server", "none: no server block of the Corefile has a zone with the name")
		e.say("answer", "REFUSED")
		return e.Explanation
	}
	e.Server = a.server.name()
	e.say("server", "%s", e.server())
	if !a.ours {
		e.say("zone", "the server block has no kubehosts stanza")
		e.sayAnswer()
		return e.Explanation
	}
	e.sayRefused()
	e.sayAhead()
	e.sayAge()
	e.sayHosts()
	e.sayZone()
	e.sayObjects()
	e.sayWhy()
	e.sayAnswer()
	return e.Explanation
}

// say adds a line.
func (e *explanation) say(label, format string, args ...any) {
	e.Lines = append(e.Lines, Line{label, safe.Printable(fmt.Sprintf(format, args...))})
}

// server describes which server block serves which stanza, and since when.
func (e *explanation) server() string {
	text := e.asked.server.name()
	if !e.ours {
		return text
	}
	text += ", stanza " + e.now.Hash + " of "
	name, _ := e.asked.server.Block.ConfigMap()
	switch e.now.Origin {
	case "configmap":
		text += "ConfigMap " + name
	case "snapshot":
		text += "ConfigMap " + name + " from the snapshot"
	default:
		text += corefileOf(e.now.Config.File())
	}
	if !e.servers.Offline {
		text += ", applied " + ago(time.Since(e.now.Since))
	}
	return text
}

// corefileOf returns a description of the Corefile whose stanza is in file: its ConfigMap if that holds the whole
// Corefile (-configmap).
func corefileOf(file string) string {
	if object, _, ok := strings.Cut(file, " key "); ok && strings.HasPrefix(object, "ConfigMap ") {
		return object
	}
	return "the Corefile"
}

// ago returns how long ago something was, in words.
func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// span returns a duration in words.
func span(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int(d / u.of); n >= 2 || n == 1 && (u.of == time.Second || d < u.of*3/2) {
			return count(n, u.name)
		}
	}
	return "less than a second"
}

// count returns a number of things in words.
func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "ry"):
		return fmt.Sprintf("%d %sies", n, what[:len(what)-1])
	case strings.HasSuffix(what, "s"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sayRefused adds why the stanza is not the newest one of the ConfigMap.
func (e *explanation) sayRefused() {
	if why := e.asked.server.Block.Refused(); why != "" {
		e.say("stanza", "the ConfigMap's newest one is refused, so this is the last good one: %s", why)
	}
}

// effects are what plugins ahead of kubehosts may do to an answer.
var effects = map[string]string{
	"local":    "may answer for localhost and the like",
	"dns64":    "may make AAAA records",
	"any":      "answers questions for ANY",
	"chaos":    "answers questions of class CH",
	"cache":    "may repeat an older answer until its TTL is over",
	"rewrite":  "may change the question",
	"acl":      "may refuse the client",
	"autopath": "may answer for a later name of the search list",
	"minimal":  "omits sections that are not needed",
	"template": "may answer first",
}

// sayAhead names the plugins that may answer before kubehosts does.
func (e *explanation) sayAhead() {
	var all []string
	for _, p := range e.asked.server.ahead() {
		if does := effects[p]; does != "" {
			all = append(all, p+" "+does)
		}
	}
	if len(all) > 0 {
		e.say("ahead", "%s", strings.Join(all, "; "))
	}
}

// sayAge adds whether the answer may be out of date.
func (e *explanation) sayAge() {
	if e.answer.Stale != 0 {
		e.say("age", "the objects come from a snapshot, written %s", ago(time.Since(time.Unix(int64(e.answer.Stale), 0))))
	}
	if e.servers.Offline {
		return
	}
	for _, objects := range e.now.Held() {
		if err := objects.Refused(); err != nil {
			e.say("age", "%v", err)
		}
	}
	if from := e.asked.server.Block.Source(); from != nil {
		if c, ok := from.Contact(); ok && !c.Down.IsZero() {
			e.say("age", "Kubernetes API %s has not replied since %s: the objects are in their state of that time", c.Server, clock(c.Down))
		}
	}
}

// sayZone adds which zone the name is in.
func (e *explanation) sayZone() {
	if z := e.answer.Zone; z != nil {
		of := ""
		if z.External != nil {
			of = ", of the external option"
		}
		e.say("zone", "%s%s", z.Name, of)
		return
	}
	var zones []string
	for _, z := range e.now.View.Zones {
		zones = append(zones, z.Name)
	}
	switch {
	case len(zones) == 0:
		e.say("zone", "none: no Services are served")
	default:
		e.say("zone", "none of %s", listed(zones, 5))
	}
}

// listed returns a list in words, the first ones by name.
func listed(all []string, most int) string {
	if more := len(all) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), more)
	}
	return strings.Join(all, ", ")
}

// maxShown is the number of records that are shown.
const maxShown = 20

// sayAnswer adds the answer.
func (e *explanation) sayAnswer() {
	switch e.answer.Outcome {
	case answer.NotOurs:
		if e.Next = e.next(); e.Next == "" {
			e.Rcode = "SERVFAIL"
			e.say("answer", "SERVFAIL: no plugin answers what kubehosts passes on")
			return
		}
		e.say("answer", "by another plugin: %s", e.Next)
		return
	case answer.Refused:
		e.Rcode = "REFUSED"
		e.say("answer", "REFUSED")
		return
	}
	m := e.reply()
	e.Rcode, e.Answered = dns.RcodeToString[m.Rcode], len(m.Answer) > 0
	head := e.Rcode
	for i, rr := range m.Answer {
		h := rr.Header()
		if i == 0 {
			e.TTL = h.Ttl
		}
		e.TTL = min(e.TTL, h.Ttl)
		e.Records = append(e.Records, fmt.Sprintf("%s %s %s", h.Name, dns.Type(h.Rrtype), strings.TrimPrefix(rr.String(), h.String())))
	}
	switch {
	case e.Answered:
		head += fmt.Sprintf(" %d s", e.TTL)
	case e.Rcode == "NOERROR":
		head += ", no such record (NODATA)"
	}
	if _, text, ok := e.answer.Extended(); ok {
		head += ", " + text
	}
	if !e.Answered {
		e.say("answer", "%s", head)
		return
	}
	e.say("answer", "%s  %s", head, e.Records[0])
	for _, r := range e.Records[1:min(len(e.Records), maxShown)] {
		e.say("", "%s", r)
	}
	if more := len(e.Records) - maxShown; more > 0 {
		e.say("", "and %d more", more)
	}
}
