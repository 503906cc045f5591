package differential

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// mark is behind the plugin and answers for names that fall through.
const mark = "file MARK ."

// configs are the Corefiles that both serve: every option of the stock plugin, and the plugins commonly used with
// it.
var configs = []*config{
	{name: "default"},
	{name: "bound to loopback", bind: "bind 127.0.0.1"},
	{name: "bound to an address", bind: "bind 127.0.0.1 " + ownAddr4, isolated: true},
	{name: "pods insecure", options: "pods insecure"},
	{name: "pods verified", options: "pods verified"},
	{name: "endpoint_pod_names", options: "endpoint_pod_names"},
	{name: "noendpoints", options: "noendpoints"},
	{name: "ignore empty_service", options: "ignore empty_service"},
	{name: "ignore empty_service noendpoints", options: "ignore empty_service\nnoendpoints"},
	{name: "namespaces", options: "namespaces shop prod missing\npods insecure"},
	{name: "namespace_labels", options: "namespace_labels team=red\npods insecure"},
	{name: "labels", options: "labels tier in (front,other)\npods verified"},
	{name: "ttl 0", options: "ttl 0"},
	{name: "ttl 3600", options: "ttl 3600"},
	{name: "fallthrough", options: "fallthrough\npods verified", after: mark, through: []string{"."}},
	{name: "fallthrough of reverse zones", options: "fallthrough in-addr.arpa ip6.arpa", after: mark, through: []string{"in-addr.arpa.", "ip6.arpa."}},
	{name: "fallthrough of a part", options: "fallthrough shop.svc.cluster.local 10.in-addr.arpa", after: mark,
		through: []string{"shop.svc.cluster.local.", "10.in-addr.arpa."}},
	{name: "two zones", zones: "other.test cluster.local in-addr.arpa ip6.arpa", options: "pods insecure"},
	{name: "zone in a zone", zones: "cluster.local shop.svc.cluster.local in-addr.arpa"},
	{name: "forward zone only", zones: "cluster.local"},
	{name: "zones of the server block", keys: "cluster.local:PORT 10.in-addr.arpa:PORT ip6.arpa:PORT",
		served: []string{"cluster.local.", "10.in-addr.arpa.", "ip6.arpa."}},
	{name: "networks as zones", zones: "cluster.local 10.96.0.0/16 10.244.0.0/22 fd00:96::/64",
		served: []string{"cluster.local.", "96.10.in-addr.arpa.", "0.244.10.in-addr.arpa.", "1.244.10.in-addr.arpa.",
			"2.244.10.in-addr.arpa.", "3.244.10.in-addr.arpa.", "0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa."}},
	{name: "the root as zone", zones: ".", served: []string{"."}},
	{name: "zonal", options: "zonal"},
	{name: "zonal fallthrough", options: "zonal\nfallthrough\nendpoint_pod_names", after: mark, through: []string{"."}},
	{name: "multicluster", zones: "cluster.local clusterset.local in-addr.arpa ip6.arpa", options: "multicluster clusterset.local"},
	{name: "multicluster zonal", zones: "cluster.local clusterset.local in-addr.arpa ip6.arpa", options: "multicluster clusterset.local\nzonal\npods insecure\nendpoint_pod_names"},
	{name: "multicluster alone", zones: "clusterset.local", options: "multicluster clusterset.local\nignore empty_service"},
	{name: "multicluster noendpoints", zones: "cluster.local clusterset.local in-addr.arpa ip6.arpa", options: "multicluster clusterset.local\nnoendpoints"},
	{name: "multicluster namespaces", zones: "cluster.local clusterset.local in-addr.arpa ip6.arpa", options: "multicluster clusterset.local\nnamespaces shop dev\nttl 9"},
	{name: "multicluster labels", zones: "cluster.local clusterset.local in-addr.arpa ip6.arpa", options: "multicluster clusterset.local\nlabels tier=front\nnamespace_labels team=red"},
	{name: "cache", before: "cache 30", options: "ttl 30\npods verified", asks: inLowerCase, loose: true},
	{name: "rewrite", before: "rewrite name suffix .short.test .svc.cluster.local answer auto\nrewrite name exact gone.test missing.svc.cluster.local",
		asks: shortened, means: lengthened},
	{name: "loadbalance and minimal", before: "loadbalance\nminimal", minimal: true},
	{name: "dns64", before: "dns64 {\nprefix 64:ff9b::/96\nallow_ipv4\ntranslate_all\n}", remade: true},
	{name: "dnssec", before: "dnssec cluster.local {\nkey file KEY\n}", options: "ttl 30", signed: true},
	{name: "metadata", before: "metadata\n" + `log . "asked {name} {type}` + metadata + `"`, options: "pods verified", logged: true},
	{name: "metadata of a zonal name", before: "metadata\n" + `log . "asked {name} {type} {/PLUGIN/zone}` + metadata + `"`, options: "zonal", logged: true},
	{name: "autopath", before: "autopath @PLUGIN", options: "pods verified\nttl 30", asks: searched, search: []string{"shop", "dev"}},
	{name: "view", before: "metadata\nview shop {\nexpr metadata('PLUGIN/client-namespace') == 'shop'\n}", options: "pods verified\nttl 30",
		blocks: ".:PORT {\nBIND\nmetadata\nacl {\nblock type MX\n}\nPLUGIN cluster.local in-addr.arpa ip6.arpa {\nkubeconfig KUBECONFIG\npods disabled\n}\n}\n"},
}

// unwired sends every query of kubehosts through CoreDNS's own server, as a preceding plugin does.
var unwired = &config{name: "wire off", ours: "wire off"}

// metadata is all metadata that the plugin publishes about a query, under stock's names.
const metadata = " {/kubernetes/kind} {/kubernetes/namespace} {/kubernetes/service} {/kubernetes/endpoint} {/kubernetes/port-name}" +
	" {/kubernetes/protocol} {/kubernetes/parse-error} {/kubernetes/client-namespace} {/kubernetes/client-pod-name} {/kubernetes/client-label/app}"

// inLowerCase prevents a cache from answering in the case of an earlier query, which is random.
func inLowerCase(q question, _ *rand.Rand) question {
	q.name = strings.ToLower(q.name)
	return q
}

// shortened queries a name in the form that the rewrite plugin expands.
func shortened(q question, r *rand.Rand) question {
	if name, ok := strings.CutSuffix(q.name, ".svc.cluster.local."); ok && r.IntN(2) == 0 {
		q.name = name + ".short.test."
	}
	return q
}

func lengthened(name string) string {
	if head, ok := strings.CutSuffix(strings.ToLower(name), ".short.test."); ok {
		return name[:len(head)] + ".svc.cluster.local."
	}
	return name
}

// searched queries a name like a pod of the namespace shop that has not used its search list. It leaves out the
// types whose denials differ intentionally: for these, stock continues through the search list.
func searched(q question, r *rand.Rand) question {
	if q.qtype == dns.TypeSOA || q.qtype == dns.TypeTXT {
		q.qtype = dns.TypeA
	}
	name := strings.TrimSuffix(q.name, "cluster.local.") + "shop.svc.cluster.local."
	if r.IntN(2) == 0 && askable(name) {
		q.name = name
	}
	return q
}

// mixed is a configuration with options selected by the seed.
func mixed(n int) *config {
	r := random(fmt.Sprint("mixed", n))
	c := &config{name: fmt.Sprint("mixed ", n), zones: "cluster.local in-addr.arpa ip6.arpa"}
	var options []string
	for _, of := range [][]string{
		{"pods disabled", "pods insecure", "pods verified"}, {"", "endpoint_pod_names"}, {"", "ignore empty_service"}, {"", "", "ttl 7", "ttl 600"},
		{"", "", "namespaces shop dev pod svc", "namespace_labels team"}, {"", "", "labels tier=front"}, {"", "zonal", "noendpoints"},
	} {
		if o := pick(r, of); o != "" {
			options = append(options, o)
		}
	}
	if r.IntN(3) == 0 {
		options, c.after, c.through = append(options, "fallthrough"), mark, []string{"."}
	}
	c.options = strings.Join(options, "\n")
	return c
}

// fullRun is the number of queries from which on each intended difference must occur.
const fullRun = 500_000

// Every name and every type, in every variant and under every option, gets the same answer from
// both.
func TestServices(t *testing.T) {
	start(t)
	count, full := questionCount(t)
	all := append(configs, mixed(1), mixed(2), mixed(3))
	if !full {
		random("configurations").Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:defaultConfigs-1]
	}
	all = append(all, unwired)
	total, began := newTally(), time.Now()
	per := count / len(all)
	for _, c := range all {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if c.isolated && !isolated {
				return
			}
			names := shared.world.names(random(c.name), c.zonesServed())
			qs := names.questions(per)
			if c.asks != nil {
				for i := range qs {
					qs[i] = c.asks(qs[i], names.r)
				}
			}
			p := run(t, c)
			t.Logf("options: %s; %d names with records, %d others", strings.ReplaceAll(c.options, "\n", ", "), len(names.real), len(names.other))
			s := p.compare(t, qs)
			s.report(t)
			total.add(s)
			if c.logged {
				p.compareLogs(t, qs)
			}
		})
	}
	took := time.Since(began)
	t.Logf("%d questions in %d configurations in %v; %d had records in the answer", total.asked, len(all), took.Round(time.Second), total.positive)
	for _, a := range differences {
		t.Logf("%8d times: %s - %s", total.uses[a.name], a.name, a.why)
		if total.uses[a.name] == 0 && total.asked >= fullRun {
			t.Errorf("allowed and never seen: %s", a.name)
		}
	}
}

// compareLogs compares the lines of the log plugin about the queries. A query may be repeated, so each line counts
// once. It ignores the plugins' own lookups, as stock makes more of them, and the address of an ExternalName's target,
// which may be one of these.
func (p *pair) compareLogs(t *testing.T, qs []question) {
	t.Helper()
	targets := make(map[string]bool)
	for _, svc := range shared.world.services {
		targets[strings.ToLower(dns.Fqdn(svc.Spec.ExternalName))] = true
	}
	asked := make(map[string]bool)
	for _, q := range qs {
		if targets[strings.ToLower(q.name)] && (q.qtype == dns.TypeA || q.qtype == dns.TypeAAAA) {
			continue
		}
		asked[strings.ToLower(q.name)+" "+dns.Type(q.qtype).String()] = true
	}
	var stock, ours map[string]bool
	for begin, tick := time.Now(), time.Tick(100*time.Millisecond); time.Since(begin) < 10*time.Second; <-tick {
		stock, ours = logged(p.stock.Log(), asked), logged(p.ours.Log(), asked)
		if maps.Equal(stock, ours) {
			break // else a line may be missing, as it is written after the reply
		}
	}
	if len(stock) == 0 {
		t.Error("stock logged nothing")
	}
	report := func(who string, lines, others map[string]bool) {
		shown := 0
		for line := range lines {
			if !others[line] && shown < mostShown {
				shown++
				t.Errorf("only %s logged: %s", who, line)
			}
		}
	}
	report("stock", stock, ours)
	report("kubehosts", ours, stock)
	t.Logf("%d different log lines compared", len(stock))
}

// logged returns the lines of a log about the queries.
func logged(log string, asked map[string]bool) map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(log) {
		_, line, _ = strings.Cut(line, "] asked ")
		if f := strings.Fields(line); len(f) > 2 && asked[strings.ToLower(f[0])+" "+f[1]] {
			all[strings.TrimSpace(line)] = true
		}
	}
	return all
}
